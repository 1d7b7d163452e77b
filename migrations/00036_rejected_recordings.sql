-- +goose Up
-- Queues a recording once in the life of its call, as before. If the call has as many recordings as it may have, one that
-- was rejected gives its place to the new one. The rejected one stays in recording_history, and is not queued later: its
-- end would meet the row that it has there. The caller's transaction holds the lock of the call's row from here on.
-- Returns true when it was queued now, false when it had been before.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION caly_add_recording(p_tenant text, p_call_sid text, p_id text, p_url text, p_available timestamptz) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE known text[];
DECLARE rejected text;
BEGIN
    INSERT INTO public.calls (tenant, call_sid) VALUES (p_tenant, p_call_sid) ON CONFLICT DO NOTHING;
    SELECT recording_ids INTO known FROM public.calls WHERE tenant = p_tenant AND call_sid = p_call_sid FOR UPDATE;
    IF p_id = ANY (known) THEN
        RETURN false;
    END IF;
    IF cardinality(known) >= 16 THEN
        IF EXISTS (SELECT FROM public.recording_history WHERE tenant = p_tenant AND id = p_id) THEN
            RETURN false;
        END IF;
        SELECT max(id) INTO rejected FROM public.recording_history
            WHERE tenant = p_tenant AND id = ANY (known) AND state = 'failed' AND last_error_code = 'source_rejected';
        IF rejected IS NULL THEN
            RAISE EXCEPTION 'a call has at most 16 recordings' USING ERRCODE = 'CA001';
        END IF;
        known := array_remove(known, rejected);
    END IF;
    UPDATE public.calls SET recording_ids = known || p_id, updated_at = now() WHERE tenant = p_tenant AND call_sid = p_call_sid;
    INSERT INTO public.recordings (tenant, id, call_sid, source_url, available_at)
        VALUES (p_tenant, p_id, p_call_sid, p_url, coalesce(p_available, now()));
    RETURN true;
END $$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION caly_add_recording(p_tenant text, p_call_sid text, p_id text, p_url text, p_available timestamptz) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, public AS
$$
DECLARE known text[];
BEGIN
    INSERT INTO public.calls (tenant, call_sid) VALUES (p_tenant, p_call_sid) ON CONFLICT DO NOTHING;
    SELECT recording_ids INTO known FROM public.calls WHERE tenant = p_tenant AND call_sid = p_call_sid FOR UPDATE;
    IF p_id = ANY (known) THEN
        RETURN false;
    END IF;
    IF cardinality(known) >= 16 THEN
        RAISE EXCEPTION 'a call has at most 16 recordings' USING ERRCODE = 'CA001';
    END IF;
    UPDATE public.calls SET recording_ids = recording_ids || p_id, updated_at = now() WHERE tenant = p_tenant AND call_sid = p_call_sid;
    INSERT INTO public.recordings (tenant, id, call_sid, source_url, available_at)
        VALUES (p_tenant, p_id, p_call_sid, p_url, coalesce(p_available, now()));
    RETURN true;
END $$;
-- +goose StatementEnd
