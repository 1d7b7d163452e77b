// Package turns lets the objects of all namespaces be reconciled in turn.
package turns

import (
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/caly-dev/caly/internal/fair"
)

// Queue is a controller's queue of requests.
type Queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// NewQueue returns a queue for the NewQueue option of a controller. It takes a request of each namespace in turn, so an
// author who creates or edits many objects in one namespace does not delay those of another.
func NewQueue(name string, limiter workqueue.TypedRateLimiter[reconcile.Request]) Queue {
	type request = reconcile.Request
	requests := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[request]{
		Name:  name,
		Queue: &byNamespace{},
	})
	delaying := workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[request]{
		Name:  name,
		Queue: requests,
	})
	return workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[request]{
		Name:          name,
		DelayingQueue: delaying,
	})
}

// byNamespace orders the requests of a workqueue, which calls it under a lock.
type byNamespace struct {
	requests fair.Queue[reconcile.Request]
}

// Touch leaves a request where it is that is added again.
func (*byNamespace) Touch(reconcile.Request) {}

// Push adds a request.
func (q *byNamespace) Push(r reconcile.Request) { q.requests.Push(r.Namespace, r) }

// Len returns the number of requests.
func (q *byNamespace) Len() int { return q.requests.Len() }

// Pop returns the next request. It is called only while there is one.
func (q *byNamespace) Pop() reconcile.Request {
	request, _ := q.requests.Pop()
	return request
}
