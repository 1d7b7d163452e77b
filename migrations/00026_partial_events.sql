-- +goose Up
-- An event is applied without the fields that could not be read. They stay in its raw request and are listed here.
ALTER TABLE call_events ADD COLUMN IF NOT EXISTS unread jsonb;
-- NOT VALID: it holds for what is written from now on. The old rows have no value, so nobody needs to read them.
ALTER TABLE call_events ADD CONSTRAINT call_events_unread_check CHECK (jsonb_typeof(unread) = 'array') NOT VALID;
COMMENT ON COLUMN call_events.unread IS 'The fields that could not be read or are rejected, each with a reason. NULL: all were read.';
-- The build reads the table once and keeps others waiting meanwhile: where it is large, beforehand add the column without the constraint, and
-- make the index, CONCURRENTLY, under this name.
CREATE INDEX IF NOT EXISTS call_events_partial ON call_events (tenant, received_at) WHERE unread IS NOT NULL;
ALTER TABLE calls ADD COLUMN recording_seconds integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN calls.recording_seconds IS 'The length of the recording as Exotel tells it; 0: it does not.';
GRANT UPDATE (unread) ON call_events TO caly_dataplane;
-- Without the columns of an object, so that it can only write failed recordings: an uploaded one has an object.
GRANT INSERT (tenant, id, call_sid, source_url, state, attempts, last_error_code, last_error, finished_by, created_at)
    ON recording_history TO caly_dataplane;

-- Records a recording that may not be fetched as a failed one, once in the life of its call. A call with as many recordings as it may have
-- gets none.
-- +goose StatementBegin
CREATE FUNCTION caly_reject_recording(p_tenant text, p_call_sid text, p_id text, p_url text, p_reason text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE known text[];
BEGIN
    SELECT recording_ids INTO known FROM public.calls WHERE tenant = p_tenant AND call_sid = p_call_sid FOR UPDATE;
    IF known IS NULL OR p_id = ANY (known) OR cardinality(known) >= 16 THEN
        RETURN;
    END IF;
    UPDATE public.calls SET recording_ids = recording_ids || p_id, updated_at = now() WHERE tenant = p_tenant AND call_sid = p_call_sid;
    INSERT INTO public.recording_history (tenant, id, call_sid, source_url, state, attempts, last_error_code, last_error, finished_by, created_at)
        VALUES (p_tenant, p_id, p_call_sid, p_url, 'failed', 0, 'source_rejected', p_reason, 'ingest', now());
END $$;
-- +goose StatementEnd

-- Adds to events that this transaction stored or applied again what few events have: unread fields, rejected recordings and the length of
-- the recording. Other events are left alone, so that rows are locked in the order of caly_apply_batch.
-- +goose StatementBegin
CREATE FUNCTION caly_add_details(
    p_tenant text[], p_dedup bytea[], p_unread text[], p_seconds integer[],
    p_rec_event integer[], p_rec_id text[], p_rec_url text[], p_rec_reason text[]
) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS
$$
DECLARE e record;
DECLARE r record;
BEGIN
    FOR e IN
        SELECT d.n, c.tenant, c.call_sid, c.id, c.dead_reason, d.unread, d.seconds
            FROM unnest(p_tenant, p_dedup, p_unread, p_seconds) WITH ORDINALITY AS d(tenant, dedup, unread, seconds, n)
            JOIN public.call_events c ON c.tenant = d.tenant AND c.dedup_key = d.dedup AND c.xmin = pg_current_xact_id()::xid
            ORDER BY c.tenant, c.call_sid, d.n
    LOOP
        UPDATE public.call_events SET unread = nullif(e.unread, '')::jsonb WHERE id = e.id;
        IF e.dead_reason IS NOT NULL THEN
            CONTINUE;
        END IF;
        IF e.seconds > 0 THEN
            UPDATE public.calls SET recording_seconds = greatest(recording_seconds, e.seconds)
                WHERE tenant = e.tenant AND call_sid = e.call_sid;
        END IF;
        FOR r IN SELECT u.id, u.url, u.reason FROM unnest(p_rec_event, p_rec_id, p_rec_url, p_rec_reason) AS u(event, id, url, reason)
            WHERE u.event = e.n
        LOOP
            PERFORM public.caly_reject_recording(e.tenant, e.call_sid, r.id, r.url, r.reason);
        END LOOP;
    END LOOP;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION caly_reject_recording(text, text, text, text, text),
    caly_add_details(text[], bytea[], text[], integer[], integer[], text[], text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION caly_reject_recording(text, text, text, text, text),
    caly_add_details(text[], bytea[], text[], integer[], integer[], text[], text[], text[]) TO caly_dataplane, caly_operator;

-- +goose Down
DROP FUNCTION caly_add_details(text[], bytea[], text[], integer[], integer[], text[], text[], text[]);
DROP FUNCTION caly_reject_recording(text, text, text, text, text);
REVOKE INSERT ON recording_history FROM caly_dataplane;
ALTER TABLE calls DROP COLUMN recording_seconds;
DROP INDEX call_events_partial;
ALTER TABLE call_events DROP COLUMN unread;
