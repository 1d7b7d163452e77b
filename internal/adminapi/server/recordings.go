package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/store"
)

// maxParameter bounds a parameter that rows are compared with.
const maxParameter = 256

// listRecordings lists recordings of the tenants, of each the newest first.
func listRecordings(r *Request) (any, error) {
	filter, err := recordingFilter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return walk(
		r,
		func(ctx context.Context, tenant, after string, limit int) (part page[adminapi.Recording], err error) {
			filter := filter
			filter.Limit = limit
			if filter.After, err = decodePosition(after); err != nil {
				return part, err
			}
			list, more, err := r.server.Store.ListRecordings(ctx, tenant, filter)
			for _, found := range list {
				part.items = append(part.items, recordingOf(found))
				part.after = encodePosition(store.Position{At: found.CreatedAt, ID: found.ID})
			}
			part.more = more
			return part, err
		},
	)
}

// recordingFilter reads the parameters of a list.
func recordingFilter(query url.Values) (f store.RecordingFilter, err error) {
	f.State = store.RecordingState(query.Get("state"))
	states := []store.RecordingState{"", store.StatePending, store.StateLeased, store.StateUploaded, store.StateFailed}
	if !slices.Contains(states, f.State) {
		return f, apierrors.NewBadRequest(
			fmt.Sprintf("state: %.20q is not one of pending, leased, uploaded and failed", f.State))
	}
	if f.CallSID, err = parameter(query, "call"); err != nil {
		return f, err
	}
	if f.Code, err = parameter(query, "code"); err != nil {
		return f, err
	}
	if f.Since, err = instant(query, "since"); err != nil {
		return f, err
	}
	f.Until, err = instant(query, "until")
	return f, err
}

// parameter returns a parameter of bounded length.
func parameter(query url.Values, name string) (string, error) {
	value := query.Get(name)
	if len(value) > maxParameter {
		return "", apierrors.NewBadRequest(fmt.Sprintf("%s: it is longer than %d bytes", name, maxParameter))
	}
	return value, nil
}

// instant returns a time of RFC 3339; zero without the parameter.
func instant(query url.Values, name string) (time.Time, error) {
	value := query.Get(name)
	if value == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		return at, apierrors.NewBadRequest(
			fmt.Sprintf("%s: %.40q is not a time such as 2026-01-31T10:00:00Z", name, value))
	}
	return at, nil
}

// encodePosition returns a position as text.
func encodePosition(p store.Position) string { return p.At.UTC().Format(time.RFC3339Nano) + " " + p.ID }

// decodePosition reads a position; the empty text is the start.
func decodePosition(text string) (p store.Position, err error) {
	if text == "" {
		return p, nil
	}
	at, id, _ := strings.Cut(text, " ")
	if p.At, err = time.Parse(time.RFC3339Nano, at); err != nil || id == "" {
		return store.Position{}, apierrors.NewBadRequest("cursor: it is not of this list")
	}
	p.ID = id
	return p, nil
}

// recordingOf returns a recording as it is on the wire.
func recordingOf(r store.Recording) adminapi.Recording {
	source, _, _ := strings.Cut(r.SourceURL, "?")
	v := adminapi.Recording{
		Tenant:     r.Tenant,
		ID:         r.ID,
		CallSID:    r.CallSID,
		State:      string(r.State),
		Attempts:   r.Attempts,
		CreatedAt:  r.CreatedAt.UTC(),
		FinishedAt: orNil(r.FinishedAt),
		Code:       r.LastErrorCode,
		Message:    bounded.Text(r.LastError, 2000),
		SourceURL:  source,
		Captured:   r.Captured,
	}
	if r.State == store.StatePending {
		v.NextAttemptAt = orNil(r.AvailableAt)
	}
	if r.State == store.StateUploaded {
		v.Object = &adminapi.Object{Bucket: r.Bucket, Key: r.Key, Size: r.Size, SHA256: r.SHA256}
	}
	return v
}

// orNil returns nil for the zero time.
func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// showRecording returns a recording of the namespace by its id. Ids are the tenant's own: without the parameter "tenant"
// the first Tenant that has it counts.
func showRecording(r *Request) (any, error) {
	return firstOf(r, func(ctx context.Context, tenant string) (adminapi.Recording, error) {
		found, err := r.server.Store.RecordingByID(ctx, tenant, r.PathValue("id"))
		return recordingOf(found), err
	})
}

// retryRecordings puts failed recordings of a tenant back into the queue, each by itself.
func retryRecordings(r *Request) (any, error) {
	var body adminapi.Retry
	if err := r.Read(&body); err != nil {
		return nil, err
	}
	if len(body.IDs) == 0 || len(body.IDs) > adminapi.MaxPage {
		return nil, apierrors.NewBadRequest(
			fmt.Sprintf("ids: 1 to %d ids of recordings are needed", adminapi.MaxPage))
	}
	tenant, err := r.Tenant(body.Tenant)
	if err != nil {
		return nil, err
	}
	done := adminapi.Done{Results: []adminapi.Result{}}
	var queued []string
	defer func() { r.About("%s: retried %s", tenant, strings.Join(queued, " ")) }()
	for _, id := range body.IDs {
		result := adminapi.Result{Tenant: tenant, ID: bounded.Text(id, 64), Result: adminapi.ResultDone}
		switch err := r.server.Store.Retry(r.Context(), tenant, id); {
		case err == nil:
			queued = append(queued, result.ID)
		case errors.Is(err, store.ErrNotFound):
			result.Result = adminapi.ResultNotFound
			result.Message = "the Tenant has no failed or waiting recording of this id"
		case errors.Is(err, store.ErrCapture):
			result.Result = adminapi.ResultRejected
			result.Message = err.Error()
		default:
			return nil, err
		}
		done.Results = append(done.Results, result)
	}
	return done, nil
}
