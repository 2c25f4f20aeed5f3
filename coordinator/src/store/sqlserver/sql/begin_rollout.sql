-- @P2: number. @P3: platform. @P4: version. @P5: package. @P6: its size. @P7: release. @P8: signature. @P9: until when it is
-- good. @P10: plan. @P11: now. @P12: by. @P13: audit detail.
IF @P2 <= (SELECT COALESCE(MAX(rollouts.number), 0) FROM lull.rollouts AS rollouts)
    SET @result = 0;
ELSE
BEGIN
    INSERT INTO lull.rollouts (number, platform, version, package_digest, package_bytes, release_body, release_sign, expires_us,
        plan_text, waves_begun, forgiven, stopped, begun_us, begun_by)
    VALUES (@P2, @P3, @P4, @P5, @P6, @P7, @P8, @P9, @P10, 0, 0, NULL, @P11, @P12);
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail)
    VALUES (@P11, @P12, 'rollout.begin', CONCAT('release ', @P2), @P13);
    SET @result = 1;
END;
