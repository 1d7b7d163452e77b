package tenant

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// hanging is the stores of a namespace that do not answer, and of all others that answer after 20 ms.
type hanging struct{ Buckets }

// Probe waits for an answer.
func (hanging) Probe(ctx context.Context, u *tenantconfig.Upload, _ bool) (found objectstore.Finding, err error) {
	answer := time.After(20 * time.Millisecond)
	if u.Bucket == "hangs" {
		answer = nil
	}
	select {
	case <-answer:
		return found, nil
	case <-ctx.Done():
		return found, ctx.Err()
	}
}

// task is the probe of one Tenant, due at a time.
type task struct {
	tenant *v1alpha1.Tenant
	bucket string
	due    time.Time
}

// simulate runs the workers of the controller on probes. The noisy Tenants come again for ever. It returns how long
// each quiet Tenant waits from its creation, one every second, to the end of its probe.
func simulate(t *testing.T, noisy, quiet int) (waits []time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		reconciler := &Reconciler{Buckets: hanging{}}
		ctx, cancel := context.WithCancel(t.Context())
		queue := make(chan task, 10_000)
		var mu sync.Mutex
		var running sync.WaitGroup
		requeue := func(k task, after time.Duration) {
			time.AfterFunc(after, func() { queue <- k })
		}
		work := func(k task) {
			s := &scope{
				tenant: k.tenant,
				upload: &tenantconfig.Upload{
					ID:      k.tenant.ID(),
					Storage: tenantconfig.Storage{Bucket: k.bucket},
				},
			}
			err := reconciler.probe(ctx, s)
			stop, _ := reconcile.StopOf(err)
			switch {
			case abandoned(err):
				requeue(k, stop.After)
			case err != nil:
				requeue(k, 30*time.Second)
			default:
				mu.Lock()
				waits = append(waits, time.Since(k.due))
				mu.Unlock()
			}
		}
		for range workers {
			running.Go(func() {
				for {
					select {
					case k := <-queue:
						work(k)
					case <-ctx.Done():
						return
					}
				}
			})
		}
		for i := range noisy {
			tenant := &v1alpha1.Tenant{}
			tenant.Namespace, tenant.Name = "noisy", fmt.Sprint(i)
			queue <- task{tenant, "hangs", time.Now()}
		}
		for i := range quiet {
			time.Sleep(time.Second)
			tenant := &v1alpha1.Tenant{}
			tenant.Namespace, tenant.Name = "quiet", fmt.Sprint(i)
			queue <- task{tenant, "answers", time.Now()}
		}
		time.Sleep(5 * time.Minute)
		cancel()
		running.Wait()
	})
	slices.Sort(waits)
	return waits
}

// TestHangingStoresDelayNoOtherNamespace compares, in virtual time, the p99 of Tenants while the stores of 100
// Tenants of another namespace hang, with their p99 alone.
func TestHangingStoresDelayNoOtherNamespace(t *testing.T) {
	const quiet = 100
	alone := simulate(t, 0, quiet)
	noisy := simulate(t, 100, quiet)
	if len(alone) != quiet || len(noisy) != quiet {
		t.Fatalf("%d and %d of %d Tenants were probed", len(alone), len(noisy), quiet)
	}
	if wait, n := alone[quiet*99/100-1], noisy[quiet*99/100-1]; n*10 > wait*12 {
		t.Errorf("p99 is %s with the noisy namespace, %s alone", n, wait)
	}
}

// TestPostponedTenantsComeInTurn spaces the Tenants of one namespace, and those of no other.
func TestPostponedTenantsComeInTurn(t *testing.T) {
	var q storeQueue
	now := time.Now()
	for i := range 10 {
		if got, want := q.postpone("a", now), time.Duration(i+1)*storeTurn; got != want {
			t.Errorf("Tenant %d comes after %s, want %s", i, got, want)
		}
	}
	if got := q.postpone("b", now); got != storeTurn {
		t.Errorf("a Tenant of another namespace comes after %s", got)
	}
	for range 1000 {
		if got := q.postpone("a", now); got > maxStoreWait {
			t.Fatalf("a Tenant comes after %s", got)
		}
	}
	if got := q.postpone("a", now.Add(time.Hour)); got != storeTurn || len(q.next) != 1 {
		t.Errorf("an hour later a Tenant comes after %s, and %d namespaces are remembered", got, len(q.next))
	}
}
