package callrecording

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

// chunk of keys in one query.
const chunk = 500

// poller reads the rows of all unfinished CallRecordings each second, in few queries, and wakes the reconciler of those
// whose row says something that the status does not. A recording that is claimed and done between two polls costs one
// status write.
type poller struct {
	client  client.Reader
	store   Store
	changed chan event.GenericEvent
	seen    map[string]string // UID -> fingerprint of the row that was last woken for
}

// NeedLeaderElection makes it run on the leader alone.
func (*poller) NeedLeaderElection() bool { return true }

// Start polls until ctx is done.
func (p *poller) Start(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := p.poll(ctx); err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "read the recordings' rows; tried again in a second")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// poll wakes the controller for each open CallRecording whose row differs from the last round.
func (p *poller) poll(ctx context.Context) error {
	var list v1alpha1.CallRecordingList
	if err := p.client.List(ctx, &list); err != nil {
		return err
	}
	var open []*v1alpha1.CallRecording
	for i := range list.Items {
		if callRecording := &list.Items[i]; callRecording.Status.Phase != "" &&
			callRecording.Status.FinishedTime == nil {
			open = append(open, callRecording)
		}
	}
	next := make(map[string]string, len(open))
	for len(open) > 0 {
		n := min(len(open), chunk)
		if err := p.compare(ctx, open[:n], next); err != nil {
			return err
		}
		open = open[n:]
	}
	p.seen = next
	return nil
}

func (p *poller) compare(ctx context.Context, objs []*v1alpha1.CallRecording, next map[string]string) error {
	keys := make([]store.RecordingKey, len(objs))
	for i, o := range objs {
		keys[i] = keyOf(o)
	}
	rows, err := p.store.Recordings(ctx, keys)
	if err != nil {
		return err
	}
	for i, o := range objs {
		row := rows[keys[i]]
		print := fmt.Sprint(row.State, row.Attempts, row.AvailableAt.Unix(), row.LastError)
		next[string(o.UID)] = print
		if p.seen[string(o.UID)] == print {
			continue
		}
		select {
		case p.changed <- event.GenericEvent{Object: o}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
