package intake

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	v1alpha1ac "github.com/caly-dev/caly/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

// slowServer is an API server and a database in virtual time. The Tenant of the namespace noisy always has new rows.
type slowServer struct {
	client.Client
	tenants []v1alpha1.Tenant
	random  *rand.Rand
	queued  map[string]time.Time // the new rows of the other Tenant, by the names of their CallRecordings
	waits   []time.Duration
}

// List lists the Tenants, and no CallRecording.
func (s *slowServer) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if tenantList, ok := list.(*v1alpha1.TenantList); ok {
		tenantList.Items = s.tenants
	}
	return nil
}

// Apply takes 5 to 15 ms.
func (s *slowServer) Apply(_ context.Context, o runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
	time.Sleep(5*time.Millisecond + time.Duration(s.random.IntN(10_000))*time.Microsecond)
	name := *o.(*v1alpha1ac.CallRecordingApplyConfiguration).Name //nolint:forcetypeassert // intake applies nothing else
	if queued, ok := s.queued[name]; ok {
		s.waits = append(s.waits, time.Since(queued))
		delete(s.queued, name)
	}
	return nil
}

// Unviewed returns as many rows as are wanted, or as there are.
func (s *slowServer) Unviewed(_ context.Context, tenant string, w store.Wanted) (rows []store.Recording, err error) {
	row := func(id string) {
		recording := store.Recording{CallSID: "call"}
		recording.Tenant = tenant
		recording.ID = id
		rows = append(rows, recording)
	}
	if tenant == "noisy/support" {
		for i := range w.Limit {
			row(fmt.Sprint("noisy", i))
		}
		return rows, nil
	}
	for name := range s.queued {
		if len(rows) < w.Limit {
			row(name[len("desk-"):])
		}
	}
	return rows, nil
}

// MarkViewed does nothing: the rows are marked by Apply.
func (*slowServer) MarkViewed(context.Context, []store.RecordingKey) error { return nil }

// p99 returns the 99th percentile of the virtual time from a new row of a quiet Tenant to its CallRecording.
func p99(t *testing.T, namespaces ...string) (quiet time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in every run
		s := &slowServer{random: random, queued: map[string]time.Time{}}
		for _, namespace := range namespaces {
			tenant := v1alpha1.Tenant{}
			tenant.Namespace = namespace
			tenant.Name = "support"
			if namespace == "quiet" {
				tenant.Name = "desk"
			}
			tenant.Status.ConfigDigest = "compiled"
			s.tenants = append(s.tenants, tenant)
		}
		in := &Intake{Client: s, Store: s, MaxTotal: 1_000_000, MaxPerTenant: 100_000}
		next := time.NewTicker(time.Second)
		defer next.Stop()
		for round := range 1000 {
			if err := in.round(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-next.C
			// A row came some time during the second that has passed.
			s.queued[fmt.Sprint("desk-", round)] = time.Now().Add(-time.Duration(random.IntN(1000)) * time.Millisecond)
		}
		slices.Sort(s.waits)
		if len(s.waits) < 990 {
			t.Fatalf("%d CallRecordings of 1000 rows", len(s.waits))
		}
		quiet = s.waits[len(s.waits)*99/100]
	})
	return quiet
}

// TestNoisyNamespaceDelaysNoOther compares the p99 of a Tenant's rows, while a Tenant of another namespace always has
// more than it may have in a round, with their p99 alone.
func TestNoisyNamespaceDelaysNoOther(t *testing.T) {
	if alone, noisy := p99(t, "quiet"), p99(t, "noisy", "quiet"); noisy*10 > alone*12 {
		t.Errorf("p99 is %s with a noisy namespace, %s alone", noisy, alone)
	}
}
