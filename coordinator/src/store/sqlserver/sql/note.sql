-- @P2: now. @P3: by. @P4: action. @P5: subject. @P6: detail.
INSERT INTO lull.audit (at_us, by_whom, operation, subject, detail) VALUES (@P2, @P3, @P4, @P5, @P6);
