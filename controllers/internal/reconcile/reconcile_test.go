package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/conditions"
)

// TestRun takes the steps in order, up to the first error.
func TestRun(t *testing.T) {
	down := errors.New("down")
	for name, tc := range map[string]struct {
		results []error
		want    []int
		wantErr error
	}{
		"no step":       {nil, nil, nil},
		"all":           {[]error{nil, nil, nil}, []int{0, 1, 2}, nil},
		"up to a fault": {[]error{nil, down, nil}, []int{0, 1}, down},
	} {
		t.Run(name, func(t *testing.T) {
			var got []int
			var steps []reconcile.Step[*[]int]
			for i, result := range tc.results {
				steps = append(steps, func(_ context.Context, ran *[]int) error {
					*ran = append(*ran, i)
					return result
				})
			}
			err := reconcile.Run(t.Context(), &got, steps...)
			if !errors.Is(err, tc.wantErr) || !slices.Equal(got, tc.want) {
				t.Errorf("ran %v with %v, want %v with %v", got, err, tc.want, tc.wantErr)
			}
		})
	}
}

// finished is what one reconcile has left.
type finished struct {
	Result     ctrl.Result
	Err        string
	Conditions []string
	Events     []string
}

// TestFinish ends a reconcile in every way.
func TestFinish(t *testing.T) {
	down := errors.New("down")
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "tenants"}, "support", down)
	set := []string{"Suspended=True:Set"}
	event := []string{"Normal Set set"}
	bad := []string{"Ready=False:Bad", "Stalled=True:Bad", "Suspended=True:Set"}
	busy := []string{"Ready=False:Busy", "Reconciling=True:Busy", "Suspended=True:Set"}
	fault := []string{"Ready=False:Down", "Reconciling=True:Down", "Suspended=True:Set"}
	for name, tc := range map[string]struct {
		err      error
		comeBack time.Duration
		fault    error
		stale    time.Duration
		rejects  error // the API server's answer to the write
		want     finished
	}{
		"all steps": {
			comeBack: time.Minute,
			want:     finished{ctrl.Result{RequeueAfter: time.Minute}, "", set, event},
		},
		"stalled": {
			err:  reconcile.Stalled("Bad", "it is %s", "bad"),
			want: finished{ctrl.Result{}, "", bad, event},
		},
		"stalled, and looked at again": {
			err:      reconcile.Stalled("Bad", "bad").Again(time.Hour),
			comeBack: time.Minute,
			want:     finished{ctrl.Result{RequeueAfter: time.Minute}, "", bad, event},
		},
		"a Stop within an error": {
			err:  fmt.Errorf("step: %w", reconcile.Retry(time.Second, "Busy", "busy")),
			want: finished{ctrl.Result{RequeueAfter: time.Second}, "", busy, event},
		},
		"done": {
			err:  reconcile.Done(time.Second),
			want: finished{ctrl.Result{RequeueAfter: time.Second}, "", set, event},
		},
		"abandoned": {
			err:  reconcile.Abandon(time.Second),
			want: finished{ctrl.Result{RequeueAfter: time.Second}, "", nil, nil},
		},
		"a fault": {
			err:      down,
			comeBack: time.Minute,
			want:     finished{ctrl.Result{}, "down", fault, event},
		},
		"a fault that has no condition": {
			err:  errors.New("other"),
			want: finished{ctrl.Result{}, "other", set, event},
		},
		"a fault that ends nothing": {
			err:   reconcile.Stalled("Bad", "bad"),
			fault: down,
			want:  finished{ctrl.Result{}, "down", bad, event},
		},
		"stale": {
			comeBack: time.Hour,
			stale:    time.Second,
			rejects:  conflict,
			want:     finished{ctrl.Result{RequeueAfter: time.Second}, "", nil, nil},
		},
		"stale after a fault": {
			err:     down,
			stale:   time.Second,
			rejects: conflict,
			want:    finished{ctrl.Result{}, "down", nil, nil},
		},
		"stale, and it is queued": {
			comeBack: time.Hour,
			rejects:  conflict,
			want:     finished{ctrl.Result{RequeueAfter: time.Hour}, "", nil, nil},
		},
		"the write fails": {
			rejects: down,
			want:    finished{ctrl.Result{}, "down", nil, nil},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "support", Generation: 1}}
			c := newFake(t, tenant, tc.rejects)
			recorder := events.NewFakeRecorder(10)
			frame := reconcile.Frame[*v1alpha1.Tenant]{
				Writer:   reconcile.Writer{Client: c, Owner: reconcile.OfTenant},
				Recorder: recorder,
				Stale:    tc.stale,
				Fault:    reasonOf(down),
				Event:    setEvent,
			}
			object := read(t, c, tenant)
			scope := reconcile.Begin(object)
			conditions.Set(object, v1alpha1.ConditionSuspended, metav1.ConditionTrue, "Set", "set")
			scope.ComeBack(tc.comeBack)
			scope.Fault(tc.fault)
			var got finished
			var err error
			if got.Result, err = frame.Finish(t.Context(), &scope, tc.err); err != nil {
				got.Err = err.Error()
			}
			for _, condition := range read(t, c, tenant).Status.Conditions {
				text := fmt.Sprintf("%s=%s:%s", condition.Type, condition.Status, condition.Reason)
				got.Conditions = append(got.Conditions, text)
			}
			slices.Sort(got.Conditions)
			close(recorder.Events)
			for event := range recorder.Events {
				got.Events = append(got.Events, event)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// newFake returns a client with the Tenant, whose API server may answer writes of a status with an error.
func newFake(t *testing.T, tenant *v1alpha1.Tenant, rejects error) client.Client {
	t.Helper()
	scheme := kruntime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	funcs := interceptor.Funcs{SubResourcePatch: func(
		ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch,
		opts ...client.SubResourcePatchOption,
	) error {
		if rejects != nil {
			return rejects
		}
		return c.SubResource(sub).Patch(ctx, o, p, opts...)
	}}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(tenant).WithStatusSubresource(tenant).
		WithInterceptorFuncs(funcs).Build()
}

// reasonOf shows one fault in the conditions.
func reasonOf(fault error) func(error) (reason, message string) {
	return func(err error) (reason, message string) {
		if errors.Is(err, fault) {
			return "Down", err.Error()
		}
		return "", ""
	}
}

// setEvent returns an event about a condition that the object did not have.
func setEvent(before, now *v1alpha1.Tenant) *reconcile.Event {
	was := apimeta.FindStatusCondition(before.Status.Conditions, v1alpha1.ConditionSuspended)
	is := apimeta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionSuspended)
	if reconcile.SameState(was, is) {
		return nil
	}
	return &reconcile.Event{Type: "Normal", Reason: is.Reason, Action: "Test", Note: is.Message}
}

// TestSooner takes the shorter wait, and ignores a wait of 0.
func TestSooner(t *testing.T) {
	for name, tc := range map[string]struct{ a, b, want time.Duration }{
		"none":       {0, 0, 0},
		"the first":  {1, 2, 1},
		"the second": {2, 1, 1},
		"one alone":  {0, 2, 2},
		"the other":  {2, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reconcile.Sooner(tc.a, tc.b); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}
