package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// RecordingFilter chooses recordings. Zero fields choose all. Its times are those of when a recording was queued first.
type RecordingFilter struct {
	Page
	State   RecordingState
	CallSID string
	// Code is that of the last error.
	Code string
}

// recordingsOf reads the recordings with the ids of k of the tenant $1: from the queue or else the newest from the history, or captures.
var recordingsOf = `
	SELECT * FROM (
		SELECT ` + queueColumns("r") + ` FROM recordings r WHERE r.tenant = $1 AND r.id IN (SELECT id FROM k)
		UNION ALL
		SELECT * FROM (SELECT DISTINCT ON (h.id) ` + historyColumns + ` FROM recording_history h WHERE h.tenant = $1
			AND h.id IN (SELECT id FROM k)
			AND NOT EXISTS (SELECT FROM recordings r WHERE r.tenant = $1 AND r.id = h.id)
				ORDER BY h.id, h.finished_at DESC) newest
		UNION ALL
		SELECT ` + captureColumns + ` FROM captures c WHERE c.tenant = $1 AND c.id IN (SELECT id FROM k)
	) found ORDER BY created_at DESC, id DESC`

// RecordingByID reads a recording of a tenant. ErrNotFound when there is none.
func (d *common) RecordingByID(ctx context.Context, tenant, id string) (r Recording, err error) {
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		b.Queue(`WITH k AS (SELECT $2::text AS id)`+recordingsOf, tenant, id).Query(func(rows pgx.Rows) (err error) {
			r, err = pgx.CollectExactlyOneRow(rows, scanRecording)
			return err
		})
	})
	return r, err
}

// ListRecordings lists a tenant's recordings over queue, history and captures, the newest first, and tells whether there are more. One
// that goes from the one to the other meanwhile keeps its place.
func (d *common) ListRecordings(
	ctx context.Context, tenant string, f RecordingFilter,
) (list []Recording, more bool, err error) {
	sql, args := f.sql(tenant)
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		b.Queue(sql, args...).Query(collect(&list, scanRecording))
	})
	list, more = cutPage(list, f.Page)
	return onceEach(list), more, err
}

// sql returns the query of the list: of queue, history and captures those that can hold the state.
func (f RecordingFilter) sql(tenant string) (sql string, args []any) {
	w := &filter{}
	w.add("tenant = $%d", tenant)
	w.page("created_at", "id", f.Page)
	w.match("call_sid", f.CallSID)
	order := fmt.Sprintf(" ORDER BY created_at DESC, id DESC LIMIT %d", f.rows())
	queue := `(SELECT ` + queueColumns("r") + ` FROM recordings r WHERE ` + w.String()
	captures := `(SELECT ` + captureColumns + ` FROM captures c WHERE ` + w.String()
	history := `(SELECT ` + historyColumns + ` FROM recording_history h WHERE ` + w.String()
	if !f.Since.IsZero() {
		// Since again: a recording that was queued then did not end before, and this chooses partitions.
		history += " AND finished_at >= $2"
	}
	if f.Code != "" {
		w.args = append(w.args, f.Code)
		code := fmt.Sprintf("error_code = $%d", len(w.args))
		queue += " AND last_" + code
		history += " AND last_" + code
		captures += " AND " + code
	}
	var parts []string
	switch f.State {
	case StatePending:
		parts = []string{queue + " AND lease_owner IS NULL"}
	case StateLeased:
		parts = []string{queue + " AND lease_owner IS NOT NULL", captures + " AND state = 'recording'"}
	case StateUploaded, StateFailed:
		in := " AND state = '" + string(f.State) + "'"
		parts = []string{history + in, captures + in}
	default:
		parts = []string{queue, history, captures}
	}
	return "SELECT * FROM (" + strings.Join(parts, order+") UNION ALL ") + order + ")) listed" + order, w.args
}

// onceEach leaves out, of a recording that is there more than once, all but the first. They have one place, so they are neighbours.
func onceEach(list []Recording) []Recording {
	kept := list[:0]
	for _, r := range list {
		if len(kept) == 0 || kept[len(kept)-1].ID != r.ID {
			kept = append(kept, r)
		}
	}
	return kept
}
