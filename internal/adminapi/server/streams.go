package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/store"
)

// listStreams lists stream sessions of the tenants, of each the newest first.
func listStreams(r *Request) (any, error) {
	filter, err := streamFilter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return walk(r, func(ctx context.Context, tenant, after string, limit int) (part page[adminapi.Stream], err error) {
		filter := filter
		filter.Limit = limit
		if filter.After, err = decodePosition(after); err != nil {
			return part, err
		}
		if filter.After.ID != "" && !store.ValidID(filter.After.ID) {
			return part, apierrors.NewBadRequest("cursor: it is not of this list")
		}
		list, more, err := r.server.Store.StreamSessions(ctx, tenant, filter)
		for _, found := range list {
			part.items = append(part.items, streamOf(found))
			part.after = encodePosition(store.Position{At: found.StartedAt, ID: found.ID})
		}
		part.more = more
		return part, err
	})
}

// streamFilter reads the parameters of a list.
func streamFilter(query url.Values) (f store.StreamFilter, err error) {
	if text := query.Get("live"); text != "" {
		if f.Live, err = strconv.ParseBool(text); err != nil {
			return f, apierrors.NewBadRequest(fmt.Sprintf("live: %.20q is not true or false", text))
		}
	}
	if f.CallSID, err = parameter(query, "call"); err != nil {
		return f, err
	}
	if f.Since, err = instant(query, "since"); err != nil {
		return f, err
	}
	f.Until, err = instant(query, "until")
	return f, err
}

// streamOf returns a stream as it is on the wire.
func streamOf(s store.StreamSession) adminapi.Stream {
	return adminapi.Stream{
		Tenant:      s.Tenant,
		ID:          s.ID,
		CallSID:     s.CallSID,
		StreamSID:   s.StreamSID,
		Pod:         s.Pod,
		Agent:       s.Agent,
		StartedAt:   s.StartedAt.UTC(),
		LastSeenAt:  s.LastSeenAt.UTC(),
		EndedAt:     orNil(s.EndedAt),
		EndReason:   s.EndReason,
		Closing:     s.Closing,
		Reconnected: s.Reconnected,
		ToAgent:     adminapi.Counts(s.ToAgent),
		ToExotel:    adminapi.Counts(s.ToExotel),
	}
}

// showStream returns a stream session of the namespace by its id.
func showStream(r *Request) (any, error) {
	return firstOf(r, func(ctx context.Context, tenant string) (adminapi.Stream, error) {
		found, err := r.server.Store.StreamByID(ctx, tenant, r.PathValue("id"))
		return streamOf(found), err
	})
}

// firstOf returns the object of the first of the request's tenants that has it.
func firstOf[T any](r *Request, find func(ctx context.Context, tenant string) (T, error)) (any, error) {
	tenants, err := r.Tenants()
	if err != nil {
		return nil, err
	}
	for _, tenant := range tenants {
		found, err := find(r.Context(), tenant)
		if err == nil {
			return found, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	return nil, store.ErrNotFound
}

// closeStreams asks the pods of live streams of a tenant to close them.
func closeStreams(r *Request) (any, error) {
	var body adminapi.Close
	if err := r.Read(&body); err != nil {
		return nil, err
	}
	if body.All == (len(body.IDs) > 0) || len(body.IDs) > adminapi.MaxPage {
		return nil, apierrors.NewBadRequest(
			fmt.Sprintf("give 1 to %d ids of streams, or all", adminapi.MaxPage))
	}
	tenant, err := r.Tenant(body.Tenant)
	if err != nil {
		return nil, err
	}
	closed := adminapi.Closed{Results: []adminapi.Result{}}
	if body.All {
		closed.Count, err = r.server.Store.CloseStreams(r.Context(), tenant, r.Origin())
		r.About("%s: closed all, %d streams", tenant, closed.Count)
		return closed, err
	}
	var closing []string
	defer func() { r.About("%s: closed %s", tenant, strings.Join(closing, " ")) }()
	for _, id := range body.IDs {
		result := adminapi.Result{Tenant: tenant, ID: bounded.Text(id, 64), Result: adminapi.ResultDone}
		switch _, err := r.server.Store.CloseStream(r.Context(), tenant, id, r.Origin()); {
		case err == nil:
			closing = append(closing, result.ID)
		case errors.Is(err, store.ErrNotFound):
			result.Result = adminapi.ResultNotFound
			result.Message = "the Tenant has no stream of this id"
		case errors.Is(err, store.ErrStreamEnded):
			result.Result = adminapi.ResultRejected
			result.Message = err.Error()
		default:
			return nil, err
		}
		closed.Results = append(closed.Results, result)
	}
	return closed, nil
}
