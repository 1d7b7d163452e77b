package uploadjob

import (
	"context"
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

const leaseName = "operator"

// candidate runs an operator that waits for the lease. created is called before each Job that it creates. It ends with
// an error once it has lost the lease.
func candidate(t *testing.T, r *controllertest.Rig, created func()) (ended <-chan error) {
	t.Helper()
	mgr := r.Manager(t, func(o *manager.Options) {
		o.LeaderElection = true
		o.LeaderElectionID = leaseName
		o.LeaderElectionNamespace = r.Uploads
		o.LeaseDuration = ptr.To(3 * time.Second)
		o.RenewDeadline = ptr.To(2 * time.Second)
		o.RetryPeriod = ptr.To(300 * time.Millisecond)
		o.NewClient = func(cfg *rest.Config, o client.Options) (client.Client, error) {
			withWatch, err := client.NewWithWatch(cfg, o)
			return interceptor.NewClient(withWatch, interceptor.Funcs{Create: func(
				ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption,
			) error {
				created()
				return c.Create(ctx, o, opts...)
			}}), err
		}
	})
	controller := newReconciler(r, 0)
	controller.Client = mgr.GetClient()
	if err := controller.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		done <- mgr.Start(ctx)
	}()
	t.Cleanup(func() { cancel(); <-stopped })
	return done
}

// TestLeadershipMoves takes the lease from an operator right before it creates a Job. The operator ends, and what it
// was about to write does not arrive. The next operator makes the one Job and reports the backlog.
func TestLeadershipMoves(t *testing.T) {
	t.Parallel()
	rig := controllertest.New(t)
	tenant := healthyTenant(t, rig, "support")
	creating := make(chan struct{}, 1)
	proceed := make(chan struct{})
	first := candidate(t, rig, func() {
		creating <- struct{}{}
		<-proceed
	})
	enqueue(t, rig, tenant.ID(), 1)
	select {
	case <-creating:
	case <-time.After(30 * time.Second):
		t.Fatal("the first operator creates no Job")
	}
	eventually.Succeeds(t, func(ctx context.Context) error {
		var lease coordinationv1.Lease
		if err := rig.Client.Get(ctx, client.ObjectKey{Namespace: rig.Uploads, Name: leaseName}, &lease); err != nil {
			return err
		}
		lease.Spec.HolderIdentity = ptr.To("another")
		lease.Spec.RenewTime = ptr.To(metav1.NowMicro())
		if err := rig.Client.Update(ctx, &lease); err != nil { // the first may renew it meanwhile
			return err
		}
		return nil
	})
	select {
	case err := <-first:
		if err == nil {
			t.Error("the first operator ends without an error")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the first operator goes on without the lease")
	}
	close(proceed)
	eventually.For(500*time.Millisecond).Stays(t, func(context.Context) error { // its write fails, or arrives
		if j := jobOf(t, rig, tenant); j != nil {
			return fmt.Errorf("the first operator has made the Job %s after it had lost the lease", j.Name)
		}
		return nil
	})
	candidate(t, rig, func() {})
	waitForPods(t, rig, tenant, 1)
	waitForBacklog(t, rig, tenant, 1)
	var jobs batchv1.JobList
	if err := rig.Client.List(t.Context(), &jobs, client.InNamespace(rig.Uploads)); err != nil || len(jobs.Items) != 1 {
		t.Errorf("%d Jobs, %v; want 1", len(jobs.Items), err)
	}
}
