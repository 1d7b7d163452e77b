package server

import (
	"context"

	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/store"
)

// maxBacklog bounds the recordings that are counted of one tenant.
const maxBacklog = 1000

// listActivities lists what was done for the Tenants last.
func listActivities(r *Request) (any, error) {
	backlogs := map[string]store.Backlog{}
	list, err := r.server.Store.Backlogs(r.Context(), maxBacklog)
	if err != nil {
		return nil, err
	}
	for _, backlog := range list {
		backlogs[backlog.Tenant] = backlog
	}
	return walk(r, func(ctx context.Context, tenant, _ string, _ int) (part page[adminapi.Activity], err error) {
		found, err := r.server.Store.Activities(ctx, []string{tenant})
		for _, a := range found {
			part.items = append(part.items, adminapi.Activity{
				Tenant:          a.Tenant,
				LastEventAt:     orNil(a.LastEvent),
				LastUploadAt:    orNil(a.LastUpload),
				Waiting:         backlogs[tenant].Ready,
				OldestWaitingAt: orNil(backlogs[tenant].OldestReady),
				Streams:         a.Streams,
			})
		}
		return part, err
	})
}
