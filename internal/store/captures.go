package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/reason"
)

// ErrCapture refuses a retry: a recording of Exotel's can be fetched again, a capture cannot.
const ErrCapture refusal = "the recording was captured while its call ran, so there is no source to fetch it from again"

// lostCapturesSQL fails, of the stream sessions that a statement has ended as orphans, the captures that have no row:
// their pod was gone before it had made one. Should it live after all, BeginCapture takes the row back.
const lostCapturesSQL = `lost AS (INSERT INTO captures
	(tenant, id, session, call_sid, pod, state, error_code, error, created_at, finished_at)
	SELECT tenant, capture_id, id, call_sid, pod, 'failed', '` + reason.PodLost + `',
		'the call was captured, and its pod was gone before any of it was kept',
		started_at, now() FROM ended WHERE capture_id <> ''
			AND end_reason = '` + reason.StreamOrphaned + `' ON CONFLICT (tenant, id) DO NOTHING)`

// CaptureRef names a capture.
type CaptureRef struct{ Tenant, ID string }

// Capture is a stream's recording that was made here.
type Capture struct {
	CaptureRef
	// Session of the stream.
	Session, CallSID string
	// Pod that brings it to the bucket.
	Pod string
	// Bucket and Key of the object to be.
	Bucket, Key string
	// UploadID of the upload in parts; empty before there is one.
	UploadID  string
	CreatedAt time.Time
}

// CaptureEnd is how a capture ended.
type CaptureEnd struct {
	// Failed reports whether the capture ended without an object.
	Failed bool
	// Size of the object in bytes.
	Size int64
	// SHA256 in hex; empty of an upload in parts, whose beginning was written last.
	SHA256 string
	// Code and Message say why it failed or, uploaded, why it is shorter than its call.
	Code, Message string
}

// state returns the state of the row after this end.
func (e CaptureEnd) state() string {
	if e.Failed {
		return string(StateFailed)
	}
	return string(StateUploaded)
}

// BeginCapture keeps that a capture is being made. Once more is harmless. One that was held for lost while its pod was
// only silent begins again.
func (d *Dataplane) BeginCapture(ctx context.Context, c Capture) error {
	return d.oneTrip(ctx, c.Tenant, func(b *pgx.Batch) {
		b.Queue(`INSERT INTO captures (tenant, id, session, call_sid, pod, state, bucket, object_key, created_at)
			VALUES ($1, $2, $3::uuid, $4, $5, 'recording', $6, $7, $8)
			ON CONFLICT (tenant, id) DO UPDATE SET state = excluded.state, call_sid = excluded.call_sid,
				bucket = excluded.bucket, object_key = excluded.object_key, error_code = '', error = '',
				last_seen_at = now(), finished_at = NULL
			WHERE captures.pod = excluded.pod AND captures.state = 'failed'
				AND captures.error_code = '`+reason.PodLost+`' AND captures.bucket = ''`,
			c.Tenant, c.ID, c.Session, c.CallSID, c.Pod, c.Bucket, c.Key, c.CreatedAt)
	})
}

// RefuseCapture keeps that a stream was to be captured and was not, and why.
func (d *Dataplane) RefuseCapture(ctx context.Context, c Capture, code, message string) error {
	return d.oneTrip(ctx, c.Tenant, func(b *pgx.Batch) {
		b.Queue(
			`INSERT INTO captures (tenant, id, session, call_sid, pod, state, error_code, error, created_at,
				finished_at)
			VALUES ($1, $2, $3::uuid, $4, $5, 'failed', $6, $7, $8, now()) ON CONFLICT (tenant, id) DO NOTHING`,
			c.Tenant, c.ID, c.Session, c.CallSID, c.Pod, code, bounded.Text(message, maxError), c.CreatedAt,
		)
	})
}

// SetCaptureUpload notes the upload in parts that was begun for a capture. ErrLeaseLost if another pod has the capture, or it ended.
func (d *Dataplane) SetCaptureUpload(ctx context.Context, ref CaptureRef, pod, uploadID string) error {
	return d.heldCapture(
		ctx,
		ref,
		`UPDATE captures SET upload_id = $4 WHERE tenant = $1 AND id = $2 AND pod = $3 AND state = 'recording'`,
		pod,
		uploadID,
	)
}

// FinishCapture ends a capture. ErrLeaseLost if another pod has it, or it ended.
func (d *Dataplane) FinishCapture(ctx context.Context, ref CaptureRef, pod string, e CaptureEnd) error {
	return d.heldCapture(
		ctx, ref,
		`UPDATE captures SET state = $4, size = $5, sha256 = $6, error_code = $7, error = $8, finished_at = now()
		WHERE tenant = $1 AND id = $2 AND pod = $3 AND state = 'recording'`,
		pod, e.state(), e.Size, e.SHA256, e.Code, bounded.Text(e.Message, maxError),
	)
}

// heldCapture runs a statement on a capture's row. ErrLeaseLost if it changes no row: another pod has it.
func (d *Dataplane) heldCapture(ctx context.Context, ref CaptureRef, sql string, args ...any) error {
	var lost bool
	err := d.oneTrip(ctx, ref.Tenant, func(b *pgx.Batch) {
		b.Queue(sql, append([]any{ref.Tenant, ref.ID}, args...)...).Exec(func(tag pgconn.CommandTag) error {
			lost = tag.RowsAffected() == 0
			return nil
		})
	})
	if err == nil && lost {
		return ErrLeaseLost
	}
	return err
}

// HeartbeatCaptures notes that the pod has the captures, and returns those that it does have.
func (d *Dataplane) HeartbeatCaptures(ctx context.Context, pod string, refs []CaptureRef) (map[CaptureRef]bool, error) {
	return d.touchCaptures(ctx, pod, refs, "clock_timestamp()")
}

// ReleaseCaptures lets other pods take over the pod's captures at once.
func (d *Dataplane) ReleaseCaptures(ctx context.Context, pod string, refs []CaptureRef) error {
	_, err := d.touchCaptures(ctx, pod, refs, "'epoch'")
	return err
}

// touchCaptures reports which of the captures still belong to the pod, and moves their heartbeat.
func (d *Dataplane) touchCaptures(
	ctx context.Context, pod string, refs []CaptureRef, at string,
) (map[CaptureRef]bool, error) {
	held := make(map[CaptureRef]bool, len(refs))
	if len(refs) == 0 {
		return held, nil
	}
	var tenants, ids []string
	for _, r := range refs {
		tenants = append(tenants, r.Tenant)
		ids = append(ids, r.ID)
	}
	err := d.inTenants(ctx, distinct(tenants), func(tx pgx.Tx) error {
		rows, err := tx.Query(
			ctx,
			`UPDATE captures c SET last_seen_at = `+at+` FROM unnest($1::text[], $2::text[]) k (tenant, id)
			WHERE c.tenant = k.tenant AND c.id = k.id AND c.pod = $3 AND c.state = 'recording'
				RETURNING c.tenant, c.id`,
			tenants, ids, pod,
		)
		if err != nil {
			return err
		}
		var ref CaptureRef
		_, err = pgx.ForEachRow(rows, []any{&ref.Tenant, &ref.ID}, func() error { held[ref] = true; return nil })
		return err
	})
	return held, err
}

const captureRow = `c.tenant, c.id, c.session::text, c.call_sid, c.pod, c.bucket, c.object_key, c.upload_id, ` +
	`c.created_at`

// scanCapture reads a row of captureRow.
func scanCapture(row pgx.CollectableRow) (c Capture, err error) {
	err = row.Scan(&c.Tenant, &c.ID, &c.Session, &c.CallSID, &c.Pod, &c.Bucket, &c.Key, &c.UploadID, &c.CreatedAt)
	return c, err
}

// ClaimCaptures gives the pod at most limit captures of the tenants whose own pods have been silent for a time. With
// limit 0 it only reports whether the database answers.
func (d *Dataplane) ClaimCaptures(
	ctx context.Context, tenants []string, pod string, unseen time.Duration, limit int,
) (list []Capture, err error) {
	if len(tenants) == 0 {
		return nil, nil
	}
	err = d.inTenants(ctx, tenants, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `UPDATE captures c SET pod = $1, last_seen_at = clock_timestamp()
			FROM (SELECT tenant, id FROM captures WHERE state = 'recording' AND last_seen_at < now() - $2::interval
				LIMIT $3 FOR UPDATE SKIP LOCKED) dead
			WHERE c.tenant = dead.tenant AND c.id = dead.id RETURNING `+captureRow, pod, unseen, limit)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanCapture)
		return err
	})
	return list, err
}

// OpenCapture reads a capture that the pod has to bring to its end. ErrNotFound if it has none such.
func (d *Dataplane) OpenCapture(ctx context.Context, ref CaptureRef, pod string) (c Capture, err error) {
	err = d.oneTrip(ctx, ref.Tenant, func(b *pgx.Batch) {
		b.Queue(
			`SELECT `+captureRow+` FROM captures c WHERE tenant = $1 AND id = $2 AND pod = $3 AND state = 'recording'`,
			ref.Tenant,
			ref.ID,
			pod,
		).
			Query(func(rows pgx.Rows) (err error) {
				c, err = pgx.CollectExactlyOneRow(rows, scanCapture)
				return err
			})
	})
	return c, err
}

// captureLive is how long a capture counts as its pod's after the pod's last report.
const captureLive = 2 * time.Minute

// HasLiveCaptures tells whether a pod has captures of the tenant that are not in the bucket yet. Only the operator may.
func (d *Operator) HasLiveCaptures(ctx context.Context, tenant string) (has bool, err error) {
	err = d.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM captures WHERE tenant = $1 AND state = 'recording'
			AND last_seen_at > now() - $2::interval)`, tenant, captureLive).Scan(&has)
	return has, explain(err)
}

// SweepCaptures fails at most limit captures that no pod has reported on for a time, and returns how many. Only the
// operator may call it.
func (d *Operator) SweepCaptures(ctx context.Context, unseen time.Duration, limit int) (int64, error) {
	tag, err := d.pool.Exec(
		ctx,
		`UPDATE captures SET state = 'failed', error_code = $3, error = $4, finished_at = now() WHERE (tenant, id) IN
		(SELECT tenant, id FROM captures WHERE state = 'recording'
			AND greatest(last_seen_at, created_at) < now() - $1::interval LIMIT $2)`,
		unseen, limit, reason.Abandoned,
		"no pod could bring it to its end: none has the tenant's bucket any more. A lifecycle rule of the bucket "+
			"should end uploads in parts that are old",
	)
	if err != nil {
		return 0, explain(err)
	}
	return tag.RowsAffected(), nil
}
