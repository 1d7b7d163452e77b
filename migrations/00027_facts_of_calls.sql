-- +goose Up
-- What decides a call's outcome: the greatest weight of all statements about the whole call, and of those about its legs. The
-- program makes the weights (package outcome), so that the rule stands in one place; the last four bits of a weight are the
-- state. Adding the columns rewrites nothing: rows without a whole_weight are read by caly_old_weight.
ALTER TABLE calls
    ADD COLUMN whole_weight bigint,
    ADD COLUMN legs_weight bigint NOT NULL DEFAULT 0,
    ADD COLUMN conversation_rank smallint NOT NULL DEFAULT 0,
    ADD COLUMN legs jsonb;
COMMENT ON COLUMN calls.state IS 'The outcome: the state of the greater weight.';
COMMENT ON COLUMN calls.whole_weight IS 'Greatest weight of the statements about the whole call; its last four bits are the state. NULL: an older version wrote the row, and only its state is known.';
COMMENT ON COLUMN calls.legs_weight IS 'Greatest weight of the statements about the legs that were called.';
COMMENT ON COLUMN calls.legs IS 'What is known of each leg, dial attempt and agent of the call, by its key.';

ALTER TABLE call_streams ADD COLUMN weight bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN call_streams.weight IS 'Of the statement that status, disconnected_by, error and detailed_status are from.';

-- The weight of a state that a version without weights stored or sends. outcome.Old of the program does the same.
-- +goose StatementBegin
CREATE FUNCTION caly_old_weight(state smallint, talk_seconds integer) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN talk_seconds > 0 THEN (6::bigint << 44) | 4 WHEN state >= 4 THEN (4::bigint << 44) | state ELSE state::bigint END $$;
-- +goose StatementEnd

-- One number that sorts first by the rank of its event and then by seconds; no talk is below all others.
-- +goose StatementBegin
CREATE FUNCTION caly_ranked_seconds(rank smallint, seconds integer) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN seconds > 0 THEN (rank::integer << 20) | seconds ELSE 0 END $$;
-- +goose StatementEnd

-- Puts together what two statements say of a call's legs: of each field of a leg the greatest value. A call has at most 64 legs, those
-- with the greatest keys, so that no order changes which.
-- +goose StatementBegin
CREATE FUNCTION caly_merge_legs(a jsonb, b jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, public, pg_temp AS
$$
    SELECT jsonb_object_agg(m.key, m.leg) FROM (SELECT all_of.key, all_of.leg FROM (
        SELECT x.key, (SELECT jsonb_object_agg(f.name, f.value) FROM (SELECT DISTINCT ON (name) name, value
            FROM (SELECT * FROM jsonb_each(x.value) UNION ALL SELECT * FROM jsonb_each(y.value)) AS both_of(name, value)
            ORDER BY name, value DESC) f) AS leg
        FROM jsonb_each(a) x JOIN jsonb_each(b) y ON x.key = y.key
        UNION ALL SELECT x.key, x.value FROM jsonb_each(a) x WHERE NOT b ? x.key
        UNION ALL SELECT y.key, y.value FROM jsonb_each(b) y WHERE NOT a ? y.key) all_of
        ORDER BY all_of.key COLLATE "C" DESC LIMIT 64) m
$$;
-- +goose StatementEnd
CREATE AGGREGATE caly_all_legs(jsonb) (SFUNC = caly_merge_legs, STYPE = jsonb);

-- Applies those events of a batch whose outcome is 1: what they say of calls, legs and streams, and the recordings they name. Every
-- column takes the greatest of what is stored and what is new, so no order and no repetition changes the result. Rows are locked in
-- one order, so that batches of several pods wait for each other and never in a circle.
-- +goose StatementBegin
CREATE FUNCTION caly_apply_batch(
    p_outcome smallint[], p_tenant text[], p_call_sid text[], p_rank smallint[], p_whole bigint[], p_legs bigint[],
    p_direction text[], p_from text[], p_to text[], p_started timestamptz[], p_ended timestamptz[], p_seconds integer[],
    p_custom text[],
    p_rec_event integer[], p_rec_id text[], p_rec_url text[], p_rec_available timestamptz[],
    p_stream_event integer[], p_stream_sid text[], p_stream_status text[], p_stream_seconds integer[], p_stream_by text[],
    p_stream_error text[], p_stream_detail text[], p_stream_url text[], p_stream_weight bigint[],
    p_leg_facts jsonb[]
) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE i integer;
BEGIN
    IF cardinality(p_tenant) = 1 THEN -- Fast path for one event: the same statement, about three times faster.
        INSERT INTO public.calls AS c (tenant, call_sid, state, whole_weight, legs_weight, direction, direction_rank, from_number,
                from_rank, to_number, to_rank, custom_field, custom_rank, started_at, ended_at, conversation_seconds, conversation_rank,
                legs)
            VALUES (p_tenant[1], p_call_sid[1], (greatest(p_whole[1], p_legs[1]) & 15)::smallint, p_whole[1], p_legs[1],
                p_direction[1], CASE WHEN p_direction[1] = '' THEN 0 ELSE p_rank[1] END,
                p_from[1], CASE WHEN p_from[1] = '' THEN 0 ELSE p_rank[1] END,
                p_to[1], CASE WHEN p_to[1] = '' THEN 0 ELSE p_rank[1] END,
                p_custom[1], CASE WHEN p_custom[1] = '' THEN 0 ELSE p_rank[1] END,
                p_started[1], p_ended[1], p_seconds[1], CASE WHEN p_seconds[1] = 0 THEN 0 ELSE p_rank[1] END, p_leg_facts[1])
            ON CONFLICT (tenant, call_sid) DO UPDATE SET
                state = (greatest(coalesce(c.whole_weight, public.caly_old_weight(c.state, c.conversation_seconds)), c.legs_weight,
                    excluded.whole_weight, excluded.legs_weight) & 15)::smallint,
                whole_weight = greatest(coalesce(c.whole_weight, public.caly_old_weight(c.state, c.conversation_seconds)),
                    excluded.whole_weight),
                legs_weight = greatest(c.legs_weight, excluded.legs_weight),
                direction = CASE WHEN excluded.direction_rank > c.direction_rank OR excluded.direction_rank = c.direction_rank
                    AND excluded.direction > c.direction COLLATE "C" THEN excluded.direction ELSE c.direction END,
                direction_rank = greatest(c.direction_rank, excluded.direction_rank),
                from_number = CASE WHEN excluded.from_rank > c.from_rank OR excluded.from_rank = c.from_rank
                    AND excluded.from_number > c.from_number COLLATE "C" THEN excluded.from_number ELSE c.from_number END,
                from_rank = greatest(c.from_rank, excluded.from_rank),
                to_number = CASE WHEN excluded.to_rank > c.to_rank OR excluded.to_rank = c.to_rank
                    AND excluded.to_number > c.to_number COLLATE "C" THEN excluded.to_number ELSE c.to_number END,
                to_rank = greatest(c.to_rank, excluded.to_rank),
                custom_field = CASE WHEN excluded.custom_rank > c.custom_rank OR excluded.custom_rank = c.custom_rank
                    AND excluded.custom_field > c.custom_field COLLATE "C" THEN excluded.custom_field ELSE c.custom_field END,
                custom_rank = greatest(c.custom_rank, excluded.custom_rank),
                started_at = least(c.started_at, excluded.started_at),
                ended_at = greatest(c.ended_at, excluded.ended_at),
                conversation_seconds = CASE WHEN excluded.conversation_rank > c.conversation_rank THEN excluded.conversation_seconds
                    WHEN excluded.conversation_rank = c.conversation_rank THEN greatest(excluded.conversation_seconds, c.conversation_seconds)
                    ELSE c.conversation_seconds END,
                conversation_rank = greatest(c.conversation_rank, excluded.conversation_rank),
                legs = coalesce(public.caly_merge_legs(c.legs, excluded.legs), c.legs, excluded.legs),
                updated_at = now();
    ELSE
        INSERT INTO public.calls AS c (tenant, call_sid, state, whole_weight, legs_weight, direction, direction_rank, from_number,
                from_rank, to_number, to_rank, custom_field, custom_rank, started_at, ended_at, conversation_seconds, conversation_rank,
                legs)
            SELECT g.tenant, g.call_sid, (greatest(g.whole, g.legs_weight) & 15)::smallint, g.whole, g.legs_weight,
                substr(g.direction, 2), public.caly_rank_of(g.direction), substr(g.from_number, 2), public.caly_rank_of(g.from_number),
                substr(g.to_number, 2), public.caly_rank_of(g.to_number), substr(g.custom, 2), public.caly_rank_of(g.custom),
                g.started, g.ended, g.seconds & 1048575, (g.seconds >> 20)::smallint, g.legs
            FROM (SELECT e.tenant, e.call_sid, max(e.whole) AS whole, max(e.legs_weight) AS legs_weight,
                    max(public.caly_ranked(e.rank, e.direction)) AS direction, max(public.caly_ranked(e.rank, e.from_number)) AS from_number,
                    max(public.caly_ranked(e.rank, e.to_number)) AS to_number, max(public.caly_ranked(e.rank, e.custom)) AS custom,
                    min(e.started) AS started, max(e.ended) AS ended, max(public.caly_ranked_seconds(e.rank, e.seconds)) AS seconds,
                    public.caly_all_legs(e.legs) AS legs
                FROM unnest(p_outcome, p_tenant, p_call_sid, p_rank, p_whole, p_legs, p_direction, p_from, p_to, p_custom, p_started,
                        p_ended, p_seconds, p_leg_facts)
                    AS e(outcome, tenant, call_sid, rank, whole, legs_weight, direction, from_number, to_number, custom, started, ended,
                        seconds, legs)
                WHERE e.outcome = 1 GROUP BY e.tenant, e.call_sid) g
            ORDER BY g.tenant, g.call_sid
            ON CONFLICT (tenant, call_sid) DO UPDATE SET
                state = (greatest(coalesce(c.whole_weight, public.caly_old_weight(c.state, c.conversation_seconds)), c.legs_weight,
                    excluded.whole_weight, excluded.legs_weight) & 15)::smallint,
                whole_weight = greatest(coalesce(c.whole_weight, public.caly_old_weight(c.state, c.conversation_seconds)),
                    excluded.whole_weight),
                legs_weight = greatest(c.legs_weight, excluded.legs_weight),
                direction = CASE WHEN excluded.direction_rank > c.direction_rank OR excluded.direction_rank = c.direction_rank
                    AND excluded.direction > c.direction COLLATE "C" THEN excluded.direction ELSE c.direction END,
                direction_rank = greatest(c.direction_rank, excluded.direction_rank),
                from_number = CASE WHEN excluded.from_rank > c.from_rank OR excluded.from_rank = c.from_rank
                    AND excluded.from_number > c.from_number COLLATE "C" THEN excluded.from_number ELSE c.from_number END,
                from_rank = greatest(c.from_rank, excluded.from_rank),
                to_number = CASE WHEN excluded.to_rank > c.to_rank OR excluded.to_rank = c.to_rank
                    AND excluded.to_number > c.to_number COLLATE "C" THEN excluded.to_number ELSE c.to_number END,
                to_rank = greatest(c.to_rank, excluded.to_rank),
                custom_field = CASE WHEN excluded.custom_rank > c.custom_rank OR excluded.custom_rank = c.custom_rank
                    AND excluded.custom_field > c.custom_field COLLATE "C" THEN excluded.custom_field ELSE c.custom_field END,
                custom_rank = greatest(c.custom_rank, excluded.custom_rank),
                started_at = least(c.started_at, excluded.started_at),
                ended_at = greatest(c.ended_at, excluded.ended_at),
                conversation_seconds = CASE WHEN excluded.conversation_rank > c.conversation_rank THEN excluded.conversation_seconds
                    WHEN excluded.conversation_rank = c.conversation_rank THEN greatest(excluded.conversation_seconds, c.conversation_seconds)
                    ELSE c.conversation_seconds END,
                conversation_rank = greatest(c.conversation_rank, excluded.conversation_rank),
                legs = coalesce(public.caly_merge_legs(c.legs, excluded.legs), c.legs, excluded.legs),
                updated_at = now();
    END IF;

    IF cardinality(p_stream_event) > 0 THEN
        -- What is said of a stream's end belongs together, so the whole of the weightiest statement stays.
        INSERT INTO public.call_streams AS s (tenant, call_sid, stream_sid, weight, status, disconnected_by, error, detailed_status,
                duration_seconds, recording_url)
            SELECT DISTINCT ON (tenant, call_sid, e.sid) p_tenant[e.event] AS tenant, p_call_sid[e.event] AS call_sid, e.sid,
                e.weight, e.status, e.by, e.error, e.detail, max(e.seconds) OVER same, max(e.url COLLATE "C") OVER same
            FROM unnest(p_stream_event, p_stream_sid, p_stream_status, p_stream_seconds, p_stream_by, p_stream_error, p_stream_detail,
                p_stream_url, p_stream_weight) AS e(event, sid, status, seconds, by, error, detail, url, weight)
            WHERE p_outcome[e.event] = 1
            WINDOW same AS (PARTITION BY p_tenant[e.event], p_call_sid[e.event], e.sid)
            ORDER BY tenant, call_sid, e.sid, e.weight DESC, e.status COLLATE "C" DESC, e.by COLLATE "C" DESC, e.error COLLATE "C" DESC,
                e.detail COLLATE "C" DESC
            ON CONFLICT (tenant, call_sid, stream_sid) DO UPDATE SET
                (weight, status, disconnected_by, error, detailed_status) = (SELECT b.* FROM (VALUES
                    (s.weight, s.status, s.disconnected_by, s.error, s.detailed_status),
                    (excluded.weight, excluded.status, excluded.disconnected_by, excluded.error, excluded.detailed_status))
                        AS b(weight, status, by, error, detail)
                    ORDER BY b.weight DESC, b.status COLLATE "C" DESC, b.by COLLATE "C" DESC, b.error COLLATE "C" DESC,
                        b.detail COLLATE "C" DESC LIMIT 1),
                duration_seconds = greatest(s.duration_seconds, excluded.duration_seconds),
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

-- As the function of 23 arguments was, for pods of the previous version: they send states without saying of whom.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION caly_apply_batch(
    p_outcome smallint[], p_tenant text[], p_call_sid text[], p_state smallint[], p_direction text[], p_from text[], p_to text[],
    p_started timestamptz[], p_ended timestamptz[], p_seconds integer[], p_custom text[],
    p_rec_event integer[], p_rec_id text[], p_rec_url text[], p_rec_available timestamptz[],
    p_stream_event integer[], p_stream_sid text[], p_stream_status text[], p_stream_seconds integer[], p_stream_by text[],
    p_stream_error text[], p_stream_detail text[], p_stream_url text[]
) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, public, pg_temp AS
$$
    SELECT public.caly_apply_batch(p_outcome, p_tenant, p_call_sid, p_state,
        ARRAY(SELECT public.caly_old_weight(e.state, e.seconds) FROM unnest(p_state, p_seconds) WITH ORDINALITY AS e(state, seconds, n)
            ORDER BY e.n),
        array_fill(0::bigint, ARRAY[cardinality(p_tenant)]), p_direction, p_from, p_to, p_started, p_ended,
        ARRAY(SELECT least(e.seconds, 1048575) FROM unnest(p_seconds) WITH ORDINALITY AS e(seconds, n) ORDER BY e.n), p_custom,
        p_rec_event, p_rec_id, p_rec_url, p_rec_available,
        p_stream_event, p_stream_sid, p_stream_status, p_stream_seconds, p_stream_by, p_stream_error, p_stream_detail, p_stream_url,
        array_fill(0::bigint, ARRAY[cardinality(p_stream_event)]), array_fill(NULL::jsonb, ARRAY[cardinality(p_tenant)]))
$$;
-- +goose StatementEnd

-- As the function of 31 arguments, which pods of the previous version call, with weights and legs.
-- A batch of webhooks in one round trip and one transaction. Returns for each event 1 applied, 2 duplicate, 3 dead, 4 duplicate of another
-- kind. No two events of a batch may share tenant and dedup key.
-- +goose StatementBegin
CREATE FUNCTION caly_ingest_batch(
    p_tenant text[], p_call_sid text[], p_kind text[], p_event_type text[], p_dedup bytea[], p_source text[],
    p_content_type text[], p_query text[], p_raw bytea[], p_dead text[], p_covered smallint[],
    p_rank smallint[], p_whole bigint[], p_legs bigint[], p_direction text[], p_from text[], p_to text[], p_started timestamptz[],
    p_ended timestamptz[], p_seconds integer[], p_custom text[],
    p_rec_event integer[], p_rec_id text[], p_rec_url text[], p_rec_available timestamptz[],
    p_stream_event integer[], p_stream_sid text[], p_stream_status text[], p_stream_seconds integer[], p_stream_by text[],
    p_stream_error text[], p_stream_detail text[], p_stream_url text[], p_stream_weight bigint[],
    p_leg_facts jsonb[]
) RETURNS smallint[]
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE
    outcomes smallint[];
    i        integer;
BEGIN
    IF cardinality(p_tenant) = 1 THEN -- Fast path for one event: the same statement, about three times faster.
        PERFORM set_config('caly.tenant', p_tenant[1], true);
        INSERT INTO public.call_events (tenant, call_sid, kind, event_type, dedup_key, source, content_type, query, raw, covered,
                applied_at, dead_reason)
            VALUES (p_tenant[1], p_call_sid[1], p_kind[1], p_event_type[1], p_dedup[1], p_source[1], p_content_type[1], p_query[1],
                p_raw[1], p_covered[1], CASE WHEN p_dead[1] = '' THEN now() END, nullif(p_dead[1], ''))
            ON CONFLICT (tenant, dedup_key) DO NOTHING;
        GET DIAGNOSTICS i = ROW_COUNT;
        outcomes := ARRAY[CASE WHEN i = 0 THEN 2 WHEN p_dead[1] <> '' THEN 3 ELSE 1 END];
    ELSE
        PERFORM set_config('caly.tenant', array_to_string(ARRAY(SELECT DISTINCT unnest(p_tenant)), ','), true);

        WITH kept AS (
            INSERT INTO public.call_events (tenant, call_sid, kind, event_type, dedup_key, source, content_type, query, raw, covered,
                    applied_at, dead_reason)
                SELECT e.tenant, e.call_sid, e.kind, e.event_type, e.dedup, e.source, e.content_type, e.query, e.raw, e.covered,
                    CASE WHEN e.dead = '' THEN now() END, nullif(e.dead, '')
                FROM unnest(p_tenant, p_call_sid, p_kind, p_event_type, p_dedup, p_source, p_content_type, p_query, p_raw, p_dead, p_covered)
                    AS e(tenant, call_sid, kind, event_type, dedup, source, content_type, query, raw, dead, covered)
                ORDER BY e.tenant, e.call_sid, e.dedup
                ON CONFLICT (tenant, dedup_key) DO NOTHING RETURNING tenant, dedup_key)
        SELECT array_agg((CASE WHEN k.tenant IS NULL THEN 2 WHEN e.dead <> '' THEN 3 ELSE 1 END)::smallint ORDER BY e.n) INTO outcomes
            FROM unnest(p_tenant, p_dedup, p_dead) WITH ORDINALITY AS e(tenant, dedup, dead, n)
            LEFT JOIN kept k ON k.tenant = e.tenant AND k.dedup_key = e.dedup;
    END IF;

    IF 2 = ANY (outcomes) THEN
        FOR i IN
            SELECT e.n FROM unnest(p_tenant, p_dedup, p_kind, outcomes) WITH ORDINALITY AS e(tenant, dedup, kind, outcome, n)
                JOIN public.call_events c ON c.tenant = e.tenant AND c.dedup_key = e.dedup
                WHERE e.outcome = 2 AND c.kind <> e.kind
        LOOP
            outcomes[i] := 4;
        END LOOP;
    END IF;
    IF NOT 1 = ANY (outcomes) THEN
        RETURN outcomes;
    END IF;

    PERFORM public.caly_apply_batch(outcomes, p_tenant, p_call_sid, p_rank, p_whole, p_legs, p_direction, p_from, p_to, p_started, p_ended,
        p_seconds, p_custom, p_rec_event, p_rec_id, p_rec_url, p_rec_available,
        p_stream_event, p_stream_sid, p_stream_status, p_stream_seconds, p_stream_by, p_stream_error, p_stream_detail, p_stream_url,
        p_stream_weight, p_leg_facts);
    RETURN outcomes;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION caly_apply_batch(smallint[], text[], text[], smallint[], bigint[], bigint[], text[], text[], text[], timestamptz[], timestamptz[],
    integer[], text[], integer[], text[], text[], timestamptz[], integer[], text[], text[], integer[], text[], text[], text[],
    text[], bigint[], jsonb[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_apply_batch(smallint[], text[], text[], smallint[], bigint[], bigint[], text[], text[], text[], timestamptz[], timestamptz[],
    integer[], text[], integer[], text[], text[], timestamptz[], integer[], text[], text[], integer[], text[], text[], text[],
    text[], bigint[], jsonb[]) TO caly_dataplane, caly_operator;
REVOKE ALL ON FUNCTION caly_ingest_batch(text[], text[], text[], text[], bytea[], text[], text[], text[], bytea[], text[], smallint[], smallint[], bigint[],
    bigint[], text[], text[], text[], timestamptz[], timestamptz[], integer[], text[], integer[], text[], text[], timestamptz[],
    integer[], text[], text[], integer[], text[], text[], text[], text[], bigint[], jsonb[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_ingest_batch(text[], text[], text[], text[], bytea[], text[], text[], text[], bytea[], text[], smallint[], smallint[], bigint[],
    bigint[], text[], text[], text[], timestamptz[], timestamptz[], integer[], text[], integer[], text[], text[], timestamptz[],
    integer[], text[], text[], integer[], text[], text[], text[], text[], bigint[], jsonb[]) TO caly_dataplane, caly_operator;

-- +goose Down
DROP FUNCTION caly_ingest_batch(text[], text[], text[], text[], bytea[], text[], text[], text[], bytea[], text[], smallint[], smallint[], bigint[],
    bigint[], text[], text[], text[], timestamptz[], timestamptz[], integer[], text[], integer[], text[], text[], timestamptz[],
    integer[], text[], text[], integer[], text[], text[], text[], text[], bigint[], jsonb[]);
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION caly_apply_batch(
    p_outcome smallint[], p_tenant text[], p_call_sid text[], p_state smallint[], p_direction text[], p_from text[], p_to text[],
    p_started timestamptz[], p_ended timestamptz[], p_seconds integer[], p_custom text[],
    p_rec_event integer[], p_rec_id text[], p_rec_url text[], p_rec_available timestamptz[],
    p_stream_event integer[], p_stream_sid text[], p_stream_status text[], p_stream_seconds integer[], p_stream_by text[],
    p_stream_error text[], p_stream_detail text[], p_stream_url text[]
) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
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
DROP FUNCTION caly_apply_batch(smallint[], text[], text[], smallint[], bigint[], bigint[], text[], text[], text[], timestamptz[], timestamptz[],
    integer[], text[], integer[], text[], text[], timestamptz[], integer[], text[], text[], integer[], text[], text[], text[],
    text[], bigint[], jsonb[]);
DROP FUNCTION caly_ranked_seconds(smallint, integer);
DROP AGGREGATE caly_all_legs(jsonb);
DROP FUNCTION caly_merge_legs(jsonb, jsonb);
DROP FUNCTION caly_old_weight(smallint, integer);
ALTER TABLE call_streams DROP COLUMN weight;
ALTER TABLE calls DROP COLUMN legs, DROP COLUMN conversation_rank, DROP COLUMN legs_weight, DROP COLUMN whole_weight;
