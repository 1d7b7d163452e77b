package callrecording

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/jackc/pgx/v5"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	kubetest.Main(m)
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

// rig is a reconciler with a namespace and a database of its own. A test calls reconcile, or starts it in a manager.
type rig struct {
	client.Client
	rec    *Reconciler
	pg     *pgtest.Server
	db     *countingStore
	ns     string
	events chan string

	mu     sync.Mutex
	writes []string // phases in the status patches that were sent
}

func newRig(t *testing.T) *rig {
	t.Helper()
	env := kubetest.Get(t)
	pg := pgtest.New(t)
	db, err := store.OpenOperator(t.Context(), pg.OperatorDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	recorder := events.NewFakeRecorder(1000)
	r := &rig{
		Client: env.Client,
		pg:     pg,
		db:     &countingStore{Operator: db},
		ns:     env.NewNamespace(t),
		events: recorder.Events,
	}
	r.rec = &Reconciler{Client: interceptor.NewClient(env.Client, r.count()), Recorder: recorder, Store: r.db}
	return r
}

func (r *rig) count() interceptor.Funcs {
	return interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			r.mu.Lock()
			r.writes = append(r.writes, string(o.(*v1alpha1.CallRecording).Status.Phase))
			r.mu.Unlock()
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	}
}

func (r *rig) written() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.writes)
}

// start runs the reconciler in a manager.
func (r *rig) start(t *testing.T) {
	t.Helper()
	env := kubetest.Get(t)
	mgr, err := ctrl.NewManager(env.Config, ctrl.Options{
		Scheme:     env.Scheme,
		Metrics:    server.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{r.ns: {}},
		}, // other tests have CallRecordings too
		NewClient: func(cfg *rest.Config, o client.Options) (client.Client, error) {
			withWatch, err := client.NewWithWatch(cfg, o)
			return interceptor.NewClient(withWatch, r.count()), err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.rec.Client = mgr.GetClient()
	if err := r.rec.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the manager: %v", err)
		}
	})
}

// tenant makes a Tenant whose config was compiled.
func (r *rig) tenant(t *testing.T, change ...func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	t.Helper()
	o := tenanttest.New(r.ns, "support", change...)
	if err := r.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	r.compiled(t, o)
	return o
}

func (r *rig) compiled(t *testing.T, o *v1alpha1.Tenant) {
	t.Helper()
	base := o.DeepCopy()
	o.Status.ConfigDigest = "compiled"
	if err := r.Status().Patch(t.Context(), o, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
}

// apply makes a CallRecording as a person would.
func (r *rig) apply(t *testing.T, name string, change ...func(*v1alpha1.CallRecording)) *v1alpha1.CallRecording {
	t.Helper()
	callRecording := &v1alpha1.CallRecording{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name},
		Spec: v1alpha1.CallRecordingSpec{
			TenantRef: v1alpha1.TenantReference{Name: "support"},
			CallSID:   "call-1",
			SourceURL: "https://recordings.exotel.com/" + "call-1.mp3",
		},
	}
	for _, f := range change {
		f(callRecording)
	}
	if err := r.Create(t.Context(), callRecording); err != nil {
		t.Fatal(err)
	}
	return callRecording
}

func (r *rig) annotate(t *testing.T, o *v1alpha1.CallRecording, value string) {
	t.Helper()
	base := o.DeepCopy()
	o.Annotations = map[string]string{v1alpha1.AnnotationRetry: value}
	if value == "" {
		o.Annotations = nil
	}
	if err := r.Patch(t.Context(), o, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
}

// reconcile looks at a CallRecording once, and again until that changes nothing, and reads it back.
func (r *rig) reconcile(t *testing.T, o *v1alpha1.CallRecording) (*v1alpha1.CallRecording, ctrl.Result) {
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
func (r *rig) read(t *testing.T, o *v1alpha1.CallRecording) *v1alpha1.CallRecording {
	t.Helper()
	var now v1alpha1.CallRecording
	err := r.Get(t.Context(), client.ObjectKeyFromObject(o), &now)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if err != nil {
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
func (r *rig) waitFor(
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
func (r *rig) row(t *testing.T, o *v1alpha1.CallRecording) (row store.Recording, ok bool) {
	t.Helper()
	rows, err := r.db.Operator.Recordings(t.Context(), []store.RecordingKey{keyOf(o)})
	if err != nil {
		t.Fatal(err)
	}
	row, ok = rows[keyOf(o)]
	return row, ok
}

func (r *rig) enqueue(t *testing.T, o *v1alpha1.CallRecording) string {
	t.Helper()
	id := recording.ID(o.Spec.CallSID, o.Spec.SourceURL)
	if _, err := r.db.Enqueue(t.Context(), o.TenantID(), o.Spec.CallSID, store.NewRecording{
		ID:        id,
		SourceURL: o.Spec.SourceURL,
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

// pods are the tenant's upload pods.
type pods struct{ db *store.Upload }

func (r *rig) pods(t *testing.T) *pods {
	t.Helper()
	role, err := r.db.EnsureUploadRole(t.Context(), r.ns+"/support", "pw")
	if err != nil {
		t.Fatal(err)
	}
	dsn, err := r.db.UploadDSN(role, "pw")
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.OpenUpload(t.Context(), dsn, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return &pods{db}
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

// exec runs SQL as the superuser.
func (r *rig) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// told are the events so far.
func (r *rig) told() (list []string) {
	for {
		select {
		case e := <-r.events:
			list = append(list, e)
		default:
			return list
		}
	}
}
