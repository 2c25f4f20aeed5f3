-- @P2: function. @P3: the number it was signed for. @P4: kind. @P5: module. @P6: its size. @P7: canonical NaNs.
-- @P8: manifest. @P9: signature. @P10: interface. @P11: now. @P12: by. @P13: blobs it needs, as JSON. @P14: subject.
-- @P15: detail.
DECLARE @function_id bigint = (SELECT functions.function_id FROM lull.functions AS functions WHERE functions.name = @P2);
IF @function_id IS NULL
BEGIN
    SET @function_id = (SELECT COALESCE(MAX(functions.function_id), 0) + 1 FROM lull.functions AS functions);
    INSERT INTO lull.functions (function_id, name) VALUES (@function_id, @P2);
END;
IF @P3 <> (SELECT COALESCE(MAX(versions.number), 0) + 1 FROM lull.versions AS versions WHERE versions.function_id = @function_id)
    SET @outcome = 2;
IF @outcome = 0
BEGIN
    SET @result = (SELECT COALESCE(MAX(versions.version_id), 0) + 1 FROM lull.versions AS versions);
    INSERT INTO lull.versions (version_id, function_id, number, kind, module_digest, module_bytes, canonical_nans, manifest,
        manifest_signature, interface, published_us, published_by)
    VALUES (@result, @function_id, @P3, @P4, @P5, @P6, @P7, @P8, @P9, @P10, @P11, @P12);
    INSERT INTO lull.version_blobs (version_id, digest)
    SELECT @result, CONVERT(binary(32), item.digest, 2)
    FROM OPENJSON(@P13) WITH (digest varchar(64) '$.d') AS item;
    INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail) VALUES (@P11, @P12, 'function.publish', @P14, @P15);
END;
