SELECT tokens.token_id, tokens.role, tokens.name, tokens.fingerprint, tokens.uses, tokens.uses_max, tokens.created_us,
    tokens.created_by, tokens.expires_us, tokens.revoked_us, tokens.bound_names, tokens.bound_group
FROM lull.tokens AS tokens
ORDER BY tokens.token_id;
