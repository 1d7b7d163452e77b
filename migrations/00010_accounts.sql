-- +goose Up
CREATE TABLE users (
    tenant            text NOT NULL CHECK (length(tenant) BETWEEN 3 AND 128),
    id                uuid NOT NULL,
    email             text NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    email_verified_at timestamptz,
    password_hash     text NOT NULL DEFAULT '' CHECK (length(password_hash) <= 512),
    contested         boolean NOT NULL DEFAULT false,
    role              text NOT NULL CHECK (role IN ('admin', 'agent', 'viewer')),
    disabled_at       timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, email)
);
COMMENT ON TABLE users IS 'The people of a tenant. The same email in two tenants is two accounts.';
COMMENT ON COLUMN users.email IS 'Normalized: trimmed, in lower case.';
COMMENT ON COLUMN users.contested IS 'Registered more than once before the email was verified, maybe by two people: then its code alone does not verify it.';
COMMENT ON COLUMN users.password_hash IS 'argon2id in PHC form; empty until an invitation is accepted, and matches no password.';

CREATE TABLE email_codes (
    tenant     text NOT NULL,
    user_id    uuid NOT NULL,
    code_hash  bytea NOT NULL CHECK (length(code_hash) = 32),
    attempts   integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, user_id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id) ON DELETE CASCADE
);
COMMENT ON TABLE email_codes IS 'The one code that a user may verify the email with now. Hashed under a key that is not in this database: six digits are soon tried.';

CREATE TABLE login_sessions (
    tenant       text NOT NULL,
    id           uuid NOT NULL,
    user_id      uuid NOT NULL,
    hmac_key     bytea NOT NULL CHECK (length(hmac_key) = 32),
    counter      bigint NOT NULL DEFAULT 1,
    recovered    bigint NOT NULL DEFAULT 0,
    rotated_at   timestamptz NOT NULL DEFAULT now(),
    device       text NOT NULL DEFAULT '' CHECK (length(device) <= 256),
    address      inet,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    end_reason   text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id) ON DELETE CASCADE
) WITH (fillfactor = 80);
CREATE INDEX login_sessions_user ON login_sessions (tenant, user_id) WHERE ended_at IS NULL;
CREATE INDEX login_sessions_expiry ON login_sessions (expires_at);
COMMENT ON COLUMN login_sessions.counter IS 'Generation of the refresh token that is good now. A token is made from id, counter and hmac_key, so it can be made again.';
COMMENT ON COLUMN login_sessions.recovered IS 'The last generation that was given again, after the reuse interval, to who had the one before: its answer was lost, or it was stolen. Of two generations in a row the second time ends the session.';

CREATE TABLE refresh_token_blacklist (
    tenant     text NOT NULL,
    token_hash bytea NOT NULL CHECK (length(token_hash) = 32),
    session_id uuid NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, token_hash)
);
CREATE INDEX refresh_token_blacklist_expiry ON refresh_token_blacklist (expires_at);
COMMENT ON TABLE refresh_token_blacklist IS 'SHA-256 of refresh tokens that were taken back before their time: logout, revocation, reuse. Rows may go once expires_at has passed.';

CREATE TABLE password_reset_tokens (
    tenant     text NOT NULL,
    token_hash bytea NOT NULL CHECK (length(token_hash) = 32),
    user_id    uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    PRIMARY KEY (tenant, token_hash),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id) ON DELETE CASCADE
);
CREATE INDEX password_reset_tokens_user ON password_reset_tokens (tenant, user_id);
COMMENT ON TABLE password_reset_tokens IS 'SHA-256 of tokens that set a password, once, before they expire.';

CREATE TABLE revocations (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text NOT NULL,
    user_id    uuid,
    session_id uuid,
    at         timestamptz NOT NULL DEFAULT now(),
    CHECK (user_id IS NULL OR session_id IS NULL)
);
CREATE INDEX revocations_at ON revocations (at);
COMMENT ON TABLE revocations IS 'Access tokens of the session, the user or (with neither) the tenant that were issued until then are good no more. Data-plane pods read what is new every second.';

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['users', 'email_codes', 'login_sessions', 'refresh_token_blacklist', 'password_reset_tokens', 'revocations'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY operator ON %I TO caly_operator USING (true) WITH CHECK (true)', t);
        EXECUTE format($p$CREATE POLICY dataplane ON %I TO caly_dataplane
            USING (tenant = ANY (string_to_array(current_setting('caly.tenant', true), ',')))
            WITH CHECK (tenant = ANY (string_to_array(current_setting('caly.tenant', true), ',')))$p$, t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO caly_operator', t);
    END LOOP;
END $$;
-- +goose StatementEnd
-- Every pod reads the last minute of all its tenants each second: the list is taken apart once, not for each row, and the index is the time's.
ALTER POLICY dataplane ON revocations USING (tenant = ANY ((SELECT string_to_array(current_setting('caly.tenant', true), ','))::text[]));
GRANT SELECT, INSERT, UPDATE ON users, login_sessions TO caly_dataplane;
GRANT SELECT, INSERT, UPDATE, DELETE ON email_codes, password_reset_tokens TO caly_dataplane;
GRANT SELECT, INSERT ON refresh_token_blacklist, revocations TO caly_dataplane;

-- +goose Down
DROP TABLE revocations, password_reset_tokens, refresh_token_blacklist, login_sessions, email_codes, users;
