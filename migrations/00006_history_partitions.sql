-- +goose Up
-- Partitions of this month and of those to come. A month whose rows went to the default partition already is left there.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION caly_ensure_history_partitions(months integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS
$$
DECLARE
    first date := date_trunc('month', now())::date;
    part  text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('caly_history_partitions', 0));
    FOR i IN 0..least(greatest(months, 1), 24) LOOP
        part := 'recording_history_' || to_char(first, 'YYYYMM');
        IF to_regclass('public.' || part) IS NULL AND NOT EXISTS (SELECT FROM public.recording_history_default
                WHERE finished_at >= first AND finished_at < first + interval '1 month') THEN
            EXECUTE format('CREATE TABLE public.%I PARTITION OF public.recording_history FOR VALUES FROM (%L) TO (%L)',
                part, first, (first + interval '1 month')::date);
        END IF;
        first := (first + interval '1 month')::date;
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose Down
SELECT 1; -- the function that was there before made fewer partitions, and nothing else
