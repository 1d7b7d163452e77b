package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/eventview"
	"github.com/caly-dev/caly/internal/replay"
	"github.com/caly-dev/caly/internal/store"
)

// listEvents lists stored events of the tenants, of each the newest first, without their requests.
func listEvents(r *Request) (any, error) {
	filter, err := eventFilter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return walk(r, func(ctx context.Context, tenant, after string, limit int) (part page[eventview.Event], err error) {
		filter := filter
		filter.Tenant = tenant
		filter.Limit = limit + 1
		if after != "" {
			if filter.Before, err = eventID(after); err != nil {
				return part, apierrors.NewBadRequest("cursor: it is not of this list")
			}
		}
		list, err := r.server.Store.Events(ctx, filter)
		part.more = len(list) > limit
		for _, found := range list[:min(len(list), limit)] {
			part.items = append(part.items, eventview.Of(found))
			part.after = strconv.FormatInt(found.ID, 10)
		}
		return part, err
	})
}

// eventFilter reads the parameters of a list.
func eventFilter(query url.Values) (f store.EventFilter, err error) {
	kinds := map[string]store.Which{
		"":        store.DeadEvents,
		"dead":    store.DeadEvents,
		"partial": store.PartialEvents,
		"all":     store.AllEvents,
	}
	which, ok := kinds[query.Get("which")]
	if !ok {
		return f, apierrors.NewBadRequest(
			fmt.Sprintf("which: %.20q is not one of dead, partial and all", query.Get("which")))
	}
	f.Which = which
	if f.CallSID, err = parameter(query, "call"); err != nil {
		return f, err
	}
	if f.Reason, err = parameter(query, "reason"); err != nil {
		return f, err
	}
	if f.Since, err = instant(query, "since"); err != nil {
		return f, err
	}
	f.Until, err = instant(query, "until")
	return f, err
}

// eventID reads the id of an event.
func eventID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 || id == math.MaxInt64 {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("%.20q is not the id of an event, a number", text))
	}
	return id, nil
}

// showEvent returns an event of the namespace with its request, in which secrets are redacted.
func showEvent(r *Request) (any, error) {
	id, err := eventID(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	kept, err := r.event(id)
	if err != nil {
		return nil, err
	}
	return eventview.RequestOf(kept), nil
}

// event returns a stored event of one of the request's tenants. The ids of events are those of the whole installation.
func (r *Request) event(id int64) (kept store.KeptEvent, err error) {
	tenants, err := r.Tenants()
	if err != nil {
		return kept, err
	}
	if kept, err = r.server.Store.Event(r.Context(), id); err != nil {
		return kept, err
	}
	for _, tenant := range tenants {
		if kept.Tenant == tenant {
			return kept, nil
		}
	}
	return store.KeptEvent{}, store.ErrNotFound
}

// replayEvents applies stored events of a tenant again.
func replayEvents(r *Request) (any, error) {
	var body adminapi.Replay
	if err := r.Read(&body); err != nil {
		return nil, err
	}
	if len(body.IDs) == 0 || len(body.IDs) > adminapi.MaxReplay {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("ids: 1 to %d ids of events are needed", adminapi.MaxReplay))
	}
	tenant, err := r.Tenant(body.Tenant)
	if err != nil {
		return nil, err
	}
	replayer := &replay.Replayer{
		Store:   r.server.Store,
		Reader:  r.server.Client,
		Sources: r.server.Sources,
		DryRun:  body.DryRun,
	}
	done := adminapi.Replayed{Results: []replay.Result{}}
	var applied []string
	defer func() {
		r.About("%s: replayed %s, dry run %t", tenant, strings.Join(applied, " "), body.DryRun)
	}()
	for _, id := range body.IDs {
		result, err := r.replay(replayer, tenant, id)
		if err != nil {
			return nil, err
		}
		if !result.NotApplied() {
			applied = append(applied, strconv.FormatInt(id, 10))
		}
		done.Results = append(done.Results, result)
	}
	return done, nil
}

// replay applies one event again, if it is the tenant's.
func (r *Request) replay(replayer *replay.Replayer, tenant string, id int64) (replay.Result, error) {
	kept, err := r.server.Store.Event(r.Context(), id)
	if errors.Is(err, store.ErrNotFound) || err == nil && kept.Tenant != tenant {
		return replay.Unknown(id), nil
	}
	if err != nil {
		return replay.Result{}, err
	}
	return replayer.One(r.Context(), kept)
}
