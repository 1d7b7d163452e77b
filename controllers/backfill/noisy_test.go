package backfill

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/turns"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
)

// oneSecret has the credentials of every Tenant, and no Tenant whose status could be written.
type oneSecret struct{ client.Reader }

// Get returns the Secret.
func (oneSecret) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	secret, ok := o.(*corev1.Secret)
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "tenants"}, key.Name)
	}
	secret.Data = map[string][]byte{"apiKey": []byte(key.Name), "apiToken": []byte(key.Name)}
	return nil
}

// noCalls is a database without calls.
type noCalls struct{ Store }

// Suspects returns none.
func (noCalls) Suspects(context.Context, string, store.SuspectQuery) ([]store.Suspect, error) {
	return nil, nil
}

// NameHolders returns none: the account is free.
func (noCalls) NameHolders(context.Context, store.Name) ([]store.NameHolder, error) { return nil, nil }

// AddBackfill takes totals.
func (noCalls) AddBackfill(context.Context, string, map[string]int64) error { return nil }

// slowAPI refuses the credentials, after 20 s at the address of a noisy Tenant and after 100 ms at others.
type slowAPI struct{}

// RoundTrip answers 401.
func (slowAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.HasPrefix(req.URL.Host, "noisy") {
		time.Sleep(20 * time.Second)
	}
	time.Sleep(100 * time.Millisecond)
	return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody, Request: req}, nil
}

// p99 returns the 99th percentile of the virtual time from when a run of a quiet namespace is due, one every 500 ms, to
// its end. The noisy namespace has this many Tenants, which are always due.
func p99(t *testing.T, noisy int) (quiet time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		reconciler := &Reconciler{
			APIReader: oneSecret{},
			Store:     noCalls{},
			Transport: slowAPI{},
			Interval:  -1,
			Metrics:   NewMetrics(prometheus.NewRegistry()),
			Recorder:  events.NewFakeRecorder(100_000),
			Sources:   recording.SourcePolicy{AllowHTTP: true},
		}
		limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, time.Second)
		q := turns.NewQueue("", limiter)
		var mu sync.Mutex
		due := map[reconcile.Request]time.Time{}
		var waits []time.Duration
		work := func() {
			for req, down := q.Get(); !down; req, down = q.Get() {
				tenant := withBackfill(0, 0)
				tenant.Namespace = req.Namespace
				tenant.Name = req.Name
				tenant.Spec.Exotel.AccountSID = req.Name
				tenant.Spec.Exotel.CredentialsSecretRef = v1alpha1.SecretReference{Name: req.Name}
				tenant.Spec.Exotel.APIBaseURL = fmt.Sprintf("https://%s-%s.example.com", req.Namespace, req.Name)
				ended := &remembered{}
				s := &scope{tenant: tenant, memory: ended}
				result, err := s.Result(reconciler.look(t.Context(), s))
				if err != nil {
					t.Error(err)
				}
				q.Done(req)
				switch {
				case ended.condition == nil: // it was put off
					q.AddAfter(req, result.RequeueAfter)
				case req.Namespace == "noisy":
					q.Add(req)
				default:
					mu.Lock()
					waits = append(waits, time.Since(due[req]))
					mu.Unlock()
				}
			}
		}
		var all sync.WaitGroup
		for range reconciler.workers() {
			all.Go(work)
		}
		request := func(namespace string, i int) (req reconcile.Request) {
			req.Namespace, req.Name = namespace, fmt.Sprint("t", i)
			return req
		}
		for i := range noisy {
			q.Add(request("noisy", i))
		}
		const runs = 300
		for i := range runs {
			time.Sleep(500 * time.Millisecond)
			req := request("quiet", i)
			mu.Lock()
			due[req] = time.Now()
			mu.Unlock()
			q.Add(req)
		}
		time.Sleep(time.Minute)
		q.ShutDown()
		all.Wait()
		if len(waits) != runs {
			t.Fatalf("%d of %d runs ended", len(waits), runs)
		}
		slices.Sort(waits)
		quiet = waits[len(waits)*99/100]
	})
	return quiet
}

// TestNoisyNamespaceDelaysNoRun compares the p99 of the runs of a namespace, while another one has 100 Tenants that are
// always due and whose API is slow, with their p99 alone.
func TestNoisyNamespaceDelaysNoRun(t *testing.T) {
	if alone, noisy := p99(t, 0), p99(t, 100); noisy*10 > alone*12 {
		t.Errorf("p99 is %s with a noisy namespace, %s alone", noisy, alone)
	}
}
