package callrecording

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

func TestMain(m *testing.M) {
	controllertest.Main(m)
}

// countingStore is the real one, with its queries counted.
type countingStore struct {
	*store.Operator
	recordings, retries atomic.Int64
}

func (s *countingStore) Recordings(
	ctx context.Context, keys []store.RecordingKey,
) (map[store.RecordingKey]store.Recording, error) {
	s.recordings.Add(1)
	return s.Operator.Recordings(ctx, keys)
}

func (s *countingStore) Retry(ctx context.Context, tenant, id string) error {
	s.retries.Add(1)
	return s.Operator.Retry(ctx, tenant, id)
}

// subject is the reconciler of a rig, and what it did. A test calls reconcile, or starts it in a manager.
type subject struct {
	*controllertest.Rig
	rec     *Reconciler
	counted *countingStore
	events  chan string
}

func newSubject(t *testing.T) *subject {
	t.Helper()
	rig := controllertest.New(t)
	recorder := events.NewFakeRecorder(1000)
	counted := &countingStore{Operator: rig.DB}
	rec := &Reconciler{
		Client:   interceptor.NewClient(rig.Client, rig.Writes.Funcs()),
		Recorder: recorder,
		Store:    counted,
	}
	return &subject{Rig: rig, rec: rec, counted: counted, events: recorder.Events}
}

// written returns the phases in the status patches that were sent.
func (r *subject) written() (phases []string) {
	for _, w := range r.Writes.All() {
		if w.Verb == "patch status" {
			phases = append(phases, string(w.Object.(*v1alpha1.CallRecording).Status.Phase))
		}
	}
	return phases
}

// start runs the reconciler in a manager.
func (r *subject) start(t *testing.T) {
	t.Helper()
	mgr := r.Manager(t)
	r.rec.Client = mgr.GetClient()
	if err := r.rec.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	controllertest.Start(t, mgr)
}

// apply makes a CallRecording as a person would.
func (r *subject) apply(t *testing.T, name string, change ...func(*v1alpha1.CallRecording)) *v1alpha1.CallRecording {
	t.Helper()
	callRecording := &v1alpha1.CallRecording{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: name},
		Spec: v1alpha1.CallRecordingSpec{
			TenantRef: v1alpha1.TenantReference{Name: "support"},
			CallSID:   "call-1",
			SourceURL: "https://recordings.exotel.com/" + "call-1.mp3",
		},
	}
	for _, f := range change {
		f(callRecording)
	}
	r.Create(t, callRecording)
	return callRecording
}

func (r *subject) annotate(t *testing.T, o *v1alpha1.CallRecording, value string) {
	t.Helper()
	base := o.DeepCopy()
	o.Annotations = map[string]string{v1alpha1.AnnotationRetry: value}
	if value == "" {
		o.Annotations = nil
	}
	if err := r.Client.Patch(t.Context(), o, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
}

// reconcile looks at a CallRecording once, and again until that changes nothing, and reads it back.
func (r *subject) reconcile(t *testing.T, o *v1alpha1.CallRecording) (*v1alpha1.CallRecording, ctrl.Result) {
	t.Helper()
	for range 5 {
		before := len(r.written())
		result, err := r.rec.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(o)})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.written()) == before {
			return r.read(t, o), result
		}
	}
	t.Fatalf("each look at it changes the status again: %v", r.written())
	return nil, ctrl.Result{}
}

// read returns nil when it is gone.
func (r *subject) read(t *testing.T, o *v1alpha1.CallRecording) *v1alpha1.CallRecording {
	t.Helper()
	var now v1alpha1.CallRecording
	if !r.Find(t, o.Namespace, o.Name, &now) {
		return nil
	}
	if len(now.Status.Conditions) > 0 {
		if err := conditions.Check(&now); err != nil {
			t.Error(err)
		}
	}
	if err := kubetest.CheckKStatus(&now); err != nil {
		t.Error(err)
	}
	return &now
}

// waitFor waits until the CallRecording has the phase and the reason.
func (r *subject) waitFor(
	t *testing.T, o *v1alpha1.CallRecording, phase v1alpha1.RecordingPhase, reason string,
) *v1alpha1.CallRecording {
	t.Helper()
	var now *v1alpha1.CallRecording
	eventually.Succeeds(t, func(context.Context) error {
		if now = r.read(t, o); now == nil {
			return errors.New("it is gone")
		}
		if got := reasonOf(now); got != reason || now.Status.Phase != phase {
			return fmt.Errorf("it is %q with reason %q, want %q with %q", now.Status.Phase, got, phase, reason)
		}
		return nil
	})
	return now
}

func reasonOf(o *v1alpha1.CallRecording) string {
	if condition := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady); condition != nil {
		return condition.Reason
	}
	return ""
}

// row of a CallRecording, as it is in the database.
func (r *subject) row(t *testing.T, o *v1alpha1.CallRecording) (row store.Recording, ok bool) {
	t.Helper()
	rows, err := r.DB.Recordings(t.Context(), []store.RecordingKey{keyOf(o)})
	if err != nil {
		t.Fatal(err)
	}
	row, ok = rows[keyOf(o)]
	return row, ok
}

func (r *subject) enqueue(t *testing.T, o *v1alpha1.CallRecording) string {
	t.Helper()
	return r.Enqueue(t, o.TenantID(), o.Spec.CallSID, o.Spec.SourceURL)
}

// pods are the tenant's upload pods.
type pods struct{ db *store.Upload }

func (r *subject) pods(t *testing.T) *pods {
	t.Helper()
	return &pods{r.UploadPods(t, r.Namespace+"/support")}
}

func (p *pods) claim(t *testing.T) string {
	t.Helper()
	got, err := p.db.Claim(t.Context(), "pod", 1, time.Minute)
	if err != nil || len(got) != 1 {
		t.Fatalf("claimed %d: %v", len(got), err)
	}
	return got[0].ID
}

func (p *pods) later(t *testing.T, id string, at time.Time) {
	t.Helper()
	if err := p.db.RetryLater(t.Context(), "pod", id, store.LaterAttempt{
		At:      at,
		Code:    "SourceUnavailable",
		Message: "the source says 503",
		Counted: true,
	}); err != nil {
		t.Fatal(err)
	}
}

func (p *pods) upload(t *testing.T) {
	t.Helper()
	id := p.claim(t)
	if err := p.db.Complete(t.Context(), "pod", id, store.Result{
		Bucket: "acme",
		Key:    "k",
		SHA256: sha256,
		Size:   7,
	}); err != nil {
		t.Fatal(err)
	}
}

func (p *pods) fail(t *testing.T) {
	t.Helper()
	if err := p.db.Fail(t.Context(), "pod", p.claim(t), "gone", "the source says 410"); err != nil {
		t.Fatal(err)
	}
}

// drive brings the one queued recording to a state.
func (p *pods) drive(t *testing.T, s store.RecordingState) {
	t.Helper()
	switch s {
	case store.StateLeased:
		p.claim(t)
	case store.StateUploaded:
		p.upload(t)
	case store.StateFailed:
		p.fail(t)
	}
}

// told are the events so far.
func (r *subject) told() (list []string) {
	for {
		select {
		case e := <-r.events:
			list = append(list, e)
		default:
			return list
		}
	}
}
