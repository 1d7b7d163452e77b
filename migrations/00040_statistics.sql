-- +goose Up
-- Statistics of the whole installation, which any pod answers for, and what backfill found of each tenant.

-- The rows are given here, so that a pod can add to them and make none: a name that is not here counts as "other".
CREATE TABLE retry_totals (
    dependency     text PRIMARY KEY,
    retries        bigint NOT NULL DEFAULT 0,
    successful     bigint NOT NULL DEFAULT 0,
    failed         bigint NOT NULL DEFAULT 0,
    breaker_opened bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE retry_totals IS 'What the pods of the operator and of the data plane counted. What upload pods counted is in retry_statistics.';
INSERT INTO retry_totals (dependency) VALUES ('exotel'), ('s3'), ('sts'), ('other');
GRANT SELECT, UPDATE (retries, successful, failed, breaker_opened) ON retry_totals TO caly_operator, caly_dataplane;

CREATE TABLE cleanup_totals (
    only_row        boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cleanups        bigint NOT NULL DEFAULT 0,
    stream_sessions bigint NOT NULL DEFAULT 0,
    login_sessions  bigint NOT NULL DEFAULT 0,
    connections     bigint NOT NULL DEFAULT 0,
    memory_leaks    bigint NOT NULL DEFAULT 0,
    last_cleanup_at timestamptz
);
COMMENT ON TABLE cleanup_totals IS 'What the cleanups of all data-plane pods did, and the login sessions that the operator removed.';
INSERT INTO cleanup_totals DEFAULT VALUES;
GRANT SELECT, UPDATE (login_sessions) ON cleanup_totals TO caly_operator;
GRANT SELECT, UPDATE (cleanups, stream_sessions, connections, memory_leaks, last_cleanup_at) ON cleanup_totals TO caly_dataplane;

-- The data plane gets the sums alone: no row of retry_statistics, and no name of a tenant. What upload pods wrote is bounded
-- here, so that no row can make the sum fail. The owner of the table needs a policy, since row-level security binds it too.
CREATE POLICY totals ON retry_statistics FOR SELECT TO CURRENT_USER USING (true);
-- +goose StatementBegin
CREATE FUNCTION caly_retry_totals()
    RETURNS TABLE (dependency text, retries bigint, successful bigint, failed bigint, breaker_opened bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS
$$
    WITH counted AS (
        SELECT coalesce(t.dependency, 'other') AS dependency, s.retries, s.successful, s.failed, s.breaker_opened
            FROM public.retry_statistics s LEFT JOIN public.retry_totals t USING (dependency)
        UNION ALL SELECT * FROM public.retry_totals)
    SELECT c.dependency, least(sum(greatest(c.retries, 0)), 1::bigint << 61)::bigint,
            least(sum(greatest(c.successful, 0)), 1::bigint << 61)::bigint,
            least(sum(greatest(c.failed, 0)), 1::bigint << 61)::bigint,
            least(sum(greatest(c.breaker_opened, 0)), 1::bigint << 61)::bigint
        FROM counted c GROUP BY c.dependency
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION caly_retry_totals() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_retry_totals() TO caly_operator, caly_dataplane;

CREATE TABLE backfill_totals (
    tenant text NOT NULL CHECK (length(tenant) BETWEEN 3 AND 128),
    result text NOT NULL CHECK (length(result) BETWEEN 1 AND 32),
    calls  bigint NOT NULL,
    PRIMARY KEY (tenant, result)
);
COMMENT ON TABLE backfill_totals IS 'Calls that backfill found or could not use, by result. A total falls only when its tenant is deleted or loses its series.';
COMMENT ON COLUMN backfill_totals.tenant IS 'The tenant, or "other" for those that have no series of their own.';
ALTER TABLE backfill_totals ENABLE ROW LEVEL SECURITY;
ALTER TABLE backfill_totals FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON backfill_totals TO caly_operator USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON backfill_totals TO caly_operator;

-- +goose Down
DROP TABLE backfill_totals;
DROP FUNCTION caly_retry_totals();
DROP POLICY totals ON retry_statistics;
DROP TABLE cleanup_totals, retry_totals;
