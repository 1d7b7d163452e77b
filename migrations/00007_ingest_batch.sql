-- +goose Up
-- A batch of events may be of several tenants; its transaction sees the rows of just those. A tenant's id holds no comma.
-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['tenants', 'calls', 'call_events', 'recordings', 'recording_history'] LOOP
        EXECUTE format('DROP POLICY dataplane ON %I', t);
        EXECUTE format($p$CREATE POLICY dataplane ON %I TO caly_dataplane
            USING (tenant = ANY (string_to_array(current_setting('caly.tenant', true), ',')))
            WITH CHECK (tenant = ANY (string_to_array(current_setting('caly.tenant', true), ',')))$p$, t);
    END LOOP;
END $$;
-- +goose StatementEnd

-- A field's rank is the state that its event names: of all that the events say, the greatest (rank, value) stays, in whatever
-- order they come. So what a terminal event says gives way to no earlier one, and what it leaves out is filled by any.
ALTER TABLE calls
    ADD COLUMN direction_rank smallint NOT NULL DEFAULT 0,
    ADD COLUMN from_rank smallint NOT NULL DEFAULT 0,
    ADD COLUMN to_rank smallint NOT NULL DEFAULT 0,
    ADD COLUMN custom_rank smallint NOT NULL DEFAULT 0;

ALTER TABLE call_events
    ADD COLUMN content_digest bytea NOT NULL DEFAULT '',
    ADD COLUMN changed_replays integer NOT NULL DEFAULT 0,
    ADD COLUMN covered smallint NOT NULL DEFAULT 0 CHECK (covered BETWEEN 0 AND 3);
COMMENT ON COLUMN call_events.changed_replays IS 'Deliveries of this event whose other fields differed from the first one''s; they had no effect.';
COMMENT ON COLUMN call_events.covered IS 'What its verifier covered, and so what may be read of it later: 1 query, 2 body; 0 is the body or, without one, the query.';
GRANT UPDATE (changed_replays) ON call_events TO caly_dataplane;

CREATE TABLE call_streams (
    tenant           text NOT NULL,
    call_sid         text NOT NULL,
    stream_sid       text NOT NULL CHECK (length(stream_sid) BETWEEN 1 AND 64),
    status           text NOT NULL DEFAULT '',
    duration_seconds integer NOT NULL DEFAULT 0,
    disconnected_by  text NOT NULL DEFAULT '',
    error            text NOT NULL DEFAULT '',
    detailed_status  text NOT NULL DEFAULT '',
    recording_url    text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, call_sid, stream_sid)
);
COMMENT ON TABLE call_streams IS 'What Passthru said of a call''s audio streams after their end.';
ALTER TABLE call_streams ENABLE ROW LEVEL SECURITY;
ALTER TABLE call_streams FORCE ROW LEVEL SECURITY;
CREATE POLICY operator ON call_streams TO caly_operator USING (true) WITH CHECK (true);
CREATE POLICY dataplane ON call_streams TO caly_dataplane
    USING (tenant = ANY (string_to_array(current_setting('caly.tenant', true), ',')))
    WITH CHECK (tenant = ANY (string_to_array(current_setting('caly.tenant', true), ',')));
GRANT SELECT, INSERT, UPDATE, DELETE ON call_streams TO caly_operator;
GRANT SELECT, INSERT, UPDATE ON call_streams TO caly_dataplane;

-- One text that sorts, under collation C, first by rank and then by value; an empty value is below all others.
-- +goose StatementBegin
CREATE FUNCTION caly_ranked(rank smallint, value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (CASE WHEN value = '' THEN '' ELSE chr(65 + rank) || value END) COLLATE "C" $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION caly_rank_of(ranked text) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (CASE WHEN ranked = '' THEN 0 ELSE ascii(ranked) - 65 END)::smallint $$;
-- +goose StatementEnd

-- Applies those events of a batch whose outcome is 1: what they say of calls and streams, and the recordings they name. Rows are locked
-- in one order, so that batches of several pods wait for each other and never in a circle.
-- +goose StatementBegin
CREATE FUNCTION caly_apply_batch(
    p_outcome smallint[], p_tenant text[], p_call_sid text[], p_state smallint[], p_direction text[], p_from text[], p_to text[],
    p_started timestamptz[], p_ended timestamptz[], p_seconds integer[], p_custom text[],
    p_rec_event integer[], p_rec_id text[], p_rec_url text[], p_rec_available timestamptz[],
    p_stream_event integer[], p_stream_sid text[], p_stream_status text[], p_stream_seconds integer[], p_stream_by text[],
    p_stream_error text[], p_stream_detail text[], p_stream_url text[]
) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, public AS
$$
DECLARE i integer;
BEGIN
    IF cardinality(p_tenant) = 1 AND p_outcome[1] = 1 THEN -- as below, for a third of the time: an event is most often alone
        INSERT INTO public.calls AS c (tenant, call_sid, state, direction, direction_rank, from_number, from_rank, to_number, to_rank,
                custom_field, custom_rank, started_at, ended_at, conversation_seconds)
            VALUES (p_tenant[1], p_call_sid[1], p_state[1], p_direction[1], CASE WHEN p_direction[1] = '' THEN 0 ELSE p_state[1] END,
                p_from[1], CASE WHEN p_from[1] = '' THEN 0 ELSE p_state[1] END, p_to[1], CASE WHEN p_to[1] = '' THEN 0 ELSE p_state[1] END,
                p_custom[1], CASE WHEN p_custom[1] = '' THEN 0 ELSE p_state[1] END, p_started[1], p_ended[1], p_seconds[1])
            ON CONFLICT (tenant, call_sid) DO UPDATE SET
                state = greatest(c.state, excluded.state),
                direction = substr(greatest(public.caly_ranked(c.direction_rank, c.direction),
                    public.caly_ranked(excluded.direction_rank, excluded.direction)), 2),
                direction_rank = public.caly_rank_of(greatest(public.caly_ranked(c.direction_rank, c.direction),
                    public.caly_ranked(excluded.direction_rank, excluded.direction))),
                from_number = substr(greatest(public.caly_ranked(c.from_rank, c.from_number),
                    public.caly_ranked(excluded.from_rank, excluded.from_number)), 2),
                from_rank = public.caly_rank_of(greatest(public.caly_ranked(c.from_rank, c.from_number),
                    public.caly_ranked(excluded.from_rank, excluded.from_number))),
                to_number = substr(greatest(public.caly_ranked(c.to_rank, c.to_number),
                    public.caly_ranked(excluded.to_rank, excluded.to_number)), 2),
                to_rank = public.caly_rank_of(greatest(public.caly_ranked(c.to_rank, c.to_number),
                    public.caly_ranked(excluded.to_rank, excluded.to_number))),
                custom_field = substr(greatest(public.caly_ranked(c.custom_rank, c.custom_field),
                    public.caly_ranked(excluded.custom_rank, excluded.custom_field)), 2),
                custom_rank = public.caly_rank_of(greatest(public.caly_ranked(c.custom_rank, c.custom_field),
                    public.caly_ranked(excluded.custom_rank, excluded.custom_field))),
                started_at = least(c.started_at, excluded.started_at),
                ended_at = greatest(c.ended_at, excluded.ended_at),
                conversation_seconds = greatest(c.conversation_seconds, excluded.conversation_seconds),
                updated_at = now();
    ELSE
        INSERT INTO public.calls AS c (tenant, call_sid, state, direction, direction_rank, from_number, from_rank, to_number, to_rank,
                custom_field, custom_rank, started_at, ended_at, conversation_seconds)
            SELECT g.tenant, g.call_sid, g.state, substr(g.direction, 2), public.caly_rank_of(g.direction),
                substr(g.from_number, 2), public.caly_rank_of(g.from_number), substr(g.to_number, 2), public.caly_rank_of(g.to_number),
                substr(g.custom, 2), public.caly_rank_of(g.custom), g.started, g.ended, g.seconds
            FROM (SELECT e.tenant, e.call_sid, max(e.state) AS state, max(public.caly_ranked(e.state, e.direction)) AS direction,
                    max(public.caly_ranked(e.state, e.from_number)) AS from_number, max(public.caly_ranked(e.state, e.to_number)) AS to_number,
                    max(public.caly_ranked(e.state, e.custom)) AS custom, min(e.started) AS started, max(e.ended) AS ended, max(e.seconds) AS seconds
                FROM unnest(p_outcome, p_tenant, p_call_sid, p_state, p_direction, p_from, p_to, p_custom, p_started, p_ended, p_seconds)
                    AS e(outcome, tenant, call_sid, state, direction, from_number, to_number, custom, started, ended, seconds)
                WHERE e.outcome = 1 GROUP BY e.tenant, e.call_sid) g
            ORDER BY g.tenant, g.call_sid
            ON CONFLICT (tenant, call_sid) DO UPDATE SET
                state = greatest(c.state, excluded.state),
                direction = substr(greatest(public.caly_ranked(c.direction_rank, c.direction),
                    public.caly_ranked(excluded.direction_rank, excluded.direction)), 2),
                direction_rank = public.caly_rank_of(greatest(public.caly_ranked(c.direction_rank, c.direction),
                    public.caly_ranked(excluded.direction_rank, excluded.direction))),
                from_number = substr(greatest(public.caly_ranked(c.from_rank, c.from_number),
                    public.caly_ranked(excluded.from_rank, excluded.from_number)), 2),
                from_rank = public.caly_rank_of(greatest(public.caly_ranked(c.from_rank, c.from_number),
                    public.caly_ranked(excluded.from_rank, excluded.from_number))),
                to_number = substr(greatest(public.caly_ranked(c.to_rank, c.to_number),
                    public.caly_ranked(excluded.to_rank, excluded.to_number)), 2),
                to_rank = public.caly_rank_of(greatest(public.caly_ranked(c.to_rank, c.to_number),
                    public.caly_ranked(excluded.to_rank, excluded.to_number))),
                custom_field = substr(greatest(public.caly_ranked(c.custom_rank, c.custom_field),
                    public.caly_ranked(excluded.custom_rank, excluded.custom_field)), 2),
                custom_rank = public.caly_rank_of(greatest(public.caly_ranked(c.custom_rank, c.custom_field),
                    public.caly_ranked(excluded.custom_rank, excluded.custom_field))),
                started_at = least(c.started_at, excluded.started_at),
                ended_at = greatest(c.ended_at, excluded.ended_at),
                conversation_seconds = greatest(c.conversation_seconds, excluded.conversation_seconds),
                updated_at = now();
    END IF;


    IF cardinality(p_stream_event) > 0 THEN
        INSERT INTO public.call_streams AS s (tenant, call_sid, stream_sid, status, duration_seconds, disconnected_by, error, detailed_status,
                recording_url)
            SELECT p_tenant[e.event], p_call_sid[e.event], e.sid, max(e.status COLLATE "C"), max(e.seconds), max(e.by COLLATE "C"),
                max(e.error COLLATE "C"), max(e.detail COLLATE "C"), max(e.url COLLATE "C")
            FROM unnest(p_stream_event, p_stream_sid, p_stream_status, p_stream_seconds, p_stream_by, p_stream_error, p_stream_detail,
                p_stream_url) AS e(event, sid, status, seconds, by, error, detail, url)
            WHERE p_outcome[e.event] = 1 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
            ON CONFLICT (tenant, call_sid, stream_sid) DO UPDATE SET
                status = greatest(s.status COLLATE "C", excluded.status), duration_seconds = greatest(s.duration_seconds, excluded.duration_seconds),
                disconnected_by = greatest(s.disconnected_by COLLATE "C", excluded.disconnected_by), error = greatest(s.error COLLATE "C", excluded.error),
                detailed_status = greatest(s.detailed_status COLLATE "C", excluded.detailed_status),
                recording_url = greatest(s.recording_url COLLATE "C", excluded.recording_url);
    END IF;

    IF cardinality(p_rec_event) = 0 THEN
        RETURN;
    END IF;
    FOR i IN SELECT r.n FROM unnest(p_rec_event) WITH ORDINALITY AS r(event, n) WHERE p_outcome[r.event] = 1
        ORDER BY p_tenant[r.event], p_call_sid[r.event], r.n
    LOOP
        PERFORM public.caly_add_recording(p_tenant[p_rec_event[i]], p_call_sid[p_rec_event[i]], p_rec_id[i], p_rec_url[i], p_rec_available[i]);
    END LOOP;
END $$;
-- +goose StatementEnd

-- A batch of webhooks in one round trip and one transaction. Returns for each event 1 applied, 2 duplicate, 3 dead, 4 duplicate of
-- another content. No two events of a batch may share tenant and dedup key.
-- +goose StatementBegin
CREATE FUNCTION caly_ingest_batch(
    p_tenant text[], p_call_sid text[], p_kind text[], p_event_type text[], p_dedup bytea[], p_content bytea[], p_source text[],
    p_content_type text[], p_query text[], p_raw bytea[], p_dead text[], p_covered smallint[],
    p_state smallint[], p_direction text[], p_from text[], p_to text[], p_started timestamptz[], p_ended timestamptz[],
    p_seconds integer[], p_custom text[],
    p_rec_event integer[], p_rec_id text[], p_rec_url text[], p_rec_available timestamptz[],
    p_stream_event integer[], p_stream_sid text[], p_stream_status text[], p_stream_seconds integer[], p_stream_by text[],
    p_stream_error text[], p_stream_detail text[], p_stream_url text[]
) RETURNS smallint[]
    LANGUAGE plpgsql SET search_path = pg_catalog, public AS
$$
DECLARE
    outcomes smallint[];
    i        integer;
BEGIN
    IF cardinality(p_tenant) = 1 THEN -- as below, for a third of the time
        PERFORM set_config('caly.tenant', p_tenant[1], true);
        INSERT INTO public.call_events (tenant, call_sid, kind, event_type, dedup_key, content_digest, source, content_type, query, raw,
                covered, applied_at, dead_reason)
            VALUES (p_tenant[1], p_call_sid[1], p_kind[1], p_event_type[1], p_dedup[1], p_content[1], p_source[1], p_content_type[1],
                p_query[1], p_raw[1], p_covered[1], CASE WHEN p_dead[1] = '' THEN now() END, nullif(p_dead[1], ''))
            ON CONFLICT (tenant, dedup_key) DO NOTHING;
        GET DIAGNOSTICS i = ROW_COUNT;
        outcomes := ARRAY[CASE WHEN i = 0 THEN 2 WHEN p_dead[1] <> '' THEN 3 ELSE 1 END];
    ELSE
        PERFORM set_config('caly.tenant', array_to_string(ARRAY(SELECT DISTINCT unnest(p_tenant)), ','), true);

        WITH kept AS (
            INSERT INTO public.call_events (tenant, call_sid, kind, event_type, dedup_key, content_digest, source, content_type, query, raw,
                    covered, applied_at, dead_reason)
                SELECT e.tenant, e.call_sid, e.kind, e.event_type, e.dedup, e.content, e.source, e.content_type, e.query, e.raw,
                    e.covered, CASE WHEN e.dead = '' THEN now() END, nullif(e.dead, '')
                FROM unnest(p_tenant, p_call_sid, p_kind, p_event_type, p_dedup, p_content, p_source, p_content_type, p_query, p_raw, p_dead, p_covered)
                    AS e(tenant, call_sid, kind, event_type, dedup, content, source, content_type, query, raw, dead, covered)
                ORDER BY e.tenant, e.call_sid, e.dedup
                ON CONFLICT (tenant, dedup_key) DO NOTHING RETURNING tenant, dedup_key)
        SELECT array_agg((CASE WHEN k.tenant IS NULL THEN 2 WHEN e.dead <> '' THEN 3 ELSE 1 END)::smallint ORDER BY e.n) INTO outcomes
            FROM unnest(p_tenant, p_dedup, p_dead) WITH ORDINALITY AS e(tenant, dedup, dead, n)
            LEFT JOIN kept k ON k.tenant = e.tenant AND k.dedup_key = e.dedup;
    END IF;

    IF 2 = ANY (outcomes) THEN
        FOR i IN
            WITH changed AS (
                UPDATE public.call_events c SET changed_replays = changed_replays + 1
                    FROM unnest(p_tenant, p_dedup, p_content, outcomes) AS e(tenant, dedup, content, outcome)
                    WHERE e.outcome = 2 AND c.tenant = e.tenant AND c.dedup_key = e.dedup AND c.content_digest NOT IN (e.content, '')
                    RETURNING c.tenant, c.dedup_key)
            SELECT e.n FROM changed c JOIN unnest(p_tenant, p_dedup) WITH ORDINALITY AS e(tenant, dedup, n)
                ON c.tenant = e.tenant AND c.dedup_key = e.dedup
        LOOP
            outcomes[i] := 4;
        END LOOP;
    END IF;
    IF NOT 1 = ANY (outcomes) THEN
        RETURN outcomes;
    END IF;

    PERFORM public.caly_apply_batch(outcomes, p_tenant, p_call_sid, p_state, p_direction, p_from, p_to, p_started, p_ended, p_seconds, p_custom,
        p_rec_event, p_rec_id, p_rec_url, p_rec_available,
        p_stream_event, p_stream_sid, p_stream_status, p_stream_seconds, p_stream_by, p_stream_error, p_stream_detail, p_stream_url);
    RETURN outcomes;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION caly_apply_batch(smallint[], text[], text[], smallint[], text[], text[], text[], timestamptz[], timestamptz[], integer[], text[],
    integer[], text[], text[], timestamptz[], integer[], text[], text[], integer[], text[], text[], text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_apply_batch(smallint[], text[], text[], smallint[], text[], text[], text[], timestamptz[], timestamptz[], integer[], text[],
    integer[], text[], text[], timestamptz[], integer[], text[], text[], integer[], text[], text[], text[], text[]) TO caly_dataplane, caly_operator;
REVOKE ALL ON FUNCTION caly_ingest_batch(text[], text[], text[], text[], bytea[], bytea[], text[], text[], text[], bytea[], text[], smallint[], smallint[],
    text[], text[], text[], timestamptz[], timestamptz[], integer[], text[], integer[], text[], text[], timestamptz[], integer[], text[],
    text[], integer[], text[], text[], text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_ingest_batch(text[], text[], text[], text[], bytea[], bytea[], text[], text[], text[], bytea[], text[], smallint[], smallint[],
    text[], text[], text[], timestamptz[], timestamptz[], integer[], text[], integer[], text[], text[], timestamptz[], integer[], text[],
    text[], integer[], text[], text[], text[], text[]) TO caly_dataplane, caly_operator;

-- +goose Down
DROP FUNCTION caly_ingest_batch(text[], text[], text[], text[], bytea[], bytea[], text[], text[], text[], bytea[], text[], smallint[], smallint[],
    text[], text[], text[], timestamptz[], timestamptz[], integer[], text[], integer[], text[], text[], timestamptz[], integer[], text[],
    text[], integer[], text[], text[], text[], text[]);
DROP FUNCTION caly_apply_batch(smallint[], text[], text[], smallint[], text[], text[], text[], timestamptz[], timestamptz[], integer[], text[],
    integer[], text[], text[], timestamptz[], integer[], text[], text[], integer[], text[], text[], text[], text[]);
DROP FUNCTION caly_rank_of(text), caly_ranked(smallint, text);
DROP TABLE call_streams;
ALTER TABLE call_events DROP COLUMN covered, DROP COLUMN changed_replays, DROP COLUMN content_digest;
ALTER TABLE calls DROP COLUMN direction_rank, DROP COLUMN from_rank, DROP COLUMN to_rank, DROP COLUMN custom_rank;
