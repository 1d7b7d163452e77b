package callrecording

import (
	"context"
	"errors"
	"sync"

	"k8s.io/apimachinery/pkg/util/wait"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
)

// room counts the CallRecordings of each namespace as the cache reports them. A list of the cache would copy the index
// of the whole namespace for each CallRecording that is queued.
type room struct {
	synced func() bool // true once the CallRecordings that existed before are counted

	mu   sync.Mutex
	used map[string]int
}

var errNotCounted = errors.New("the CallRecordings are not counted yet; tried again")

// watchRoom counts from now on, beginning with the CallRecordings that exist.
func watchRoom(ctx context.Context, c cache.Cache) (*room, error) {
	informer, err := c.GetInformer(ctx, &v1alpha1.CallRecording{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, err
	}
	r := &room{used: map[string]int{}}
	handler, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.add(o, 1) },
		DeleteFunc: func(o any) { r.add(o, -1) },
	})
	if err != nil {
		return nil, err
	}
	r.synced = handler.HasSynced
	return r, nil
}

// add counts a CallRecording in its namespace; n is 1 or -1. Informers may pass a tombstone.
func (r *room) add(o any, n int) {
	if last, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	obj, ok := o.(client.Object)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used[obj.GetNamespace()] += n; r.used[obj.GetNamespace()] <= 0 {
		delete(r.used, obj.GetNamespace())
	}
}

// in returns how many CallRecordings a namespace has.
func (r *room) in(namespace string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used[namespace]
}

// checkRoom holds a CallRecording back while its namespace has more than it may have. Those that were queued before go
// on.
func (r *Reconciler) checkRoom(_ context.Context, s *scope) error {
	switch {
	case r.MaxPerNamespace <= 0:
		return nil
	case !r.room.synced():
		return errNotCounted
	case r.room.in(s.obj.Namespace) <= r.MaxPerNamespace:
		return nil
	}
	return reconcile.Stalled(v1alpha1.ReasonTooManyCallRecordings, "the namespace has more than the %d CallRecordings "+
		"that the platform allows: delete some of them; the recording is queued once there is room", r.MaxPerNamespace).
		Again(wait.Jitter(roomRetry, 0.5))
}
