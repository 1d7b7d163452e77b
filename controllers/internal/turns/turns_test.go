package turns_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/caly-dev/caly/controllers/internal/turns"
)

// p99 returns the 99th percentile of the virtual time from the creation of an object in a quiet namespace, which has
// one every 50 ms, to the end of its reconcile. The noisy namespace has this many objects, which are edited all the
// time. A reconcile takes 5 to 15 ms.
func p99(t *testing.T, workers, noisy int) (quiet time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Hour, time.Hour)
		q := turns.NewQueue("", limiter)
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in every run
		service := func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return 5*time.Millisecond + time.Duration(random.IntN(10_000))*time.Microsecond
		}
		created := map[reconcile.Request]time.Time{}
		var waits []time.Duration
		reconcileAll := func() {
			for r, down := q.Get(); !down; r, down = q.Get() {
				time.Sleep(service())
				q.Done(r)
				if r.Namespace == "noisy" {
					q.Add(r)
					continue
				}
				mu.Lock()
				waits = append(waits, time.Since(created[r]))
				mu.Unlock()
			}
		}
		var all sync.WaitGroup
		for range workers {
			all.Go(reconcileAll)
		}
		for i := range noisy {
			q.Add(request("noisy", i))
		}
		for i := range 1000 {
			time.Sleep(50 * time.Millisecond)
			r := request("quiet", i)
			mu.Lock()
			created[r] = time.Now()
			mu.Unlock()
			q.Add(r)
		}
		time.Sleep(10 * time.Second)
		q.ShutDown()
		all.Wait() // for the rest of the queue
		if len(waits) != 1000 {
			t.Fatalf("%d of 1000 objects were reconciled", len(waits))
		}
		slices.Sort(waits)
		quiet = waits[len(waits)*99/100]
	})
	return quiet
}

func request(namespace string, i int) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: fmt.Sprint(i)}}
}

// TestNoisyNamespaceDelaysNoOther compares the p99 of a namespace's objects, while another one has 1,500 that are
// edited all the time, with their p99 alone.
func TestNoisyNamespaceDelaysNoOther(t *testing.T) {
	const workers = 16
	if alone, noisy := p99(t, workers, 0), p99(t, workers, 1500); noisy*10 > alone*12 {
		t.Errorf("p99 is %s with a noisy namespace, %s alone", noisy, alone)
	}
}

// TestQueueKeepsWhatAWorkqueueKeeps tests that a request is in the queue once, is taken by one worker at a time, and
// comes back after its delay.
func TestQueueKeepsWhatAWorkqueueKeeps(t *testing.T) {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](
		time.Millisecond, time.Millisecond,
	)
	q := turns.NewQueue("", limiter)
	r := request("a", 1)
	q.Add(r)
	q.Add(r)
	if got, _ := q.Get(); got != r || q.Len() != 0 {
		t.Fatalf("got %v, and %d are left", got, q.Len())
	}
	q.Add(r)
	if q.Len() != 0 {
		t.Error("a request in progress can be taken a second time")
	}
	q.Done(r)
	if got, _ := q.Get(); got != r {
		t.Errorf("got %v", got)
	}
	q.Done(r)
	q.AddRateLimited(r)
	if got, _ := q.Get(); got != r || q.NumRequeues(r) != 1 {
		t.Errorf("got %v after %d failures", got, q.NumRequeues(r))
	}
	q.Done(r)
	q.ShutDown()
	if _, down := q.Get(); !down {
		t.Error("a queue that is shut down still has requests")
	}
}
