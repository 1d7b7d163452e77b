-- +goose Up
-- Version 7 replaced this function by caly_ingest_batch. No version since then calls it.
DROP FUNCTION caly_ingest(text, text, text, text, bytea, text, text, text, bytea, text, smallint, text, text, text,
    timestamptz, timestamptz, integer, text, text, text, timestamptz);

-- +goose Down
-- +goose StatementBegin
CREATE FUNCTION caly_ingest(
    p_tenant text, p_call_sid text, p_kind text, p_event_type text, p_dedup bytea, p_source text, p_content_type text,
    p_query text, p_raw bytea, p_dead text,
    p_state smallint, p_direction text, p_from text, p_to text, p_started timestamptz, p_ended timestamptz, p_seconds integer,
    p_custom text, p_rec_id text, p_rec_url text, p_rec_available timestamptz
) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, public AS
$$
DECLARE n integer;
BEGIN
    PERFORM set_config('caly.tenant', p_tenant, true);
    INSERT INTO public.call_events (tenant, call_sid, kind, event_type, dedup_key, source, content_type, query, raw, applied_at, dead_reason)
        VALUES (p_tenant, p_call_sid, p_kind, p_event_type, p_dedup, p_source, p_content_type, p_query, p_raw,
            CASE WHEN p_dead = '' THEN now() END, nullif(p_dead, ''))
        ON CONFLICT (tenant, dedup_key) DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n = 0 THEN
        RETURN 2;
    END IF;
    IF p_dead <> '' THEN
        RETURN 3;
    END IF;
    INSERT INTO public.calls AS c (tenant, call_sid, state, direction, from_number, to_number, started_at, ended_at,
            conversation_seconds, custom_field)
        VALUES (p_tenant, p_call_sid, p_state, p_direction, p_from, p_to, p_started, p_ended, p_seconds, p_custom)
        ON CONFLICT (tenant, call_sid) DO UPDATE SET
            state = greatest(c.state, excluded.state),
            direction = coalesce(nullif(c.direction, ''), excluded.direction),
            from_number = coalesce(nullif(c.from_number, ''), excluded.from_number),
            to_number = coalesce(nullif(c.to_number, ''), excluded.to_number),
            started_at = least(c.started_at, excluded.started_at),
            ended_at = greatest(c.ended_at, excluded.ended_at),
            conversation_seconds = greatest(c.conversation_seconds, excluded.conversation_seconds),
            custom_field = coalesce(nullif(c.custom_field, ''), excluded.custom_field),
            updated_at = now();
    IF p_rec_id <> '' THEN
        PERFORM public.caly_add_recording(p_tenant, p_call_sid, p_rec_id, p_rec_url, p_rec_available);
    END IF;
    RETURN 1;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION caly_ingest(text, text, text, text, bytea, text, text, text, bytea, text, smallint, text, text, text,
    timestamptz, timestamptz, integer, text, text, text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_ingest(text, text, text, text, bytea, text, text, text, bytea, text, smallint, text, text, text,
    timestamptz, timestamptz, integer, text, text, text, timestamptz) TO caly_dataplane, caly_operator;
