package backfill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/netguard"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig/compile"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/metrictest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

func TestMain(m *testing.M) {
	controllertest.Main(m)
}

const (
	soon       = 20 * time.Second
	key        = "exotel-key-7f3a"
	token      = "exotel-token-91bc"
	accountSID = "acme1"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// subject is the reconciler of a rig, with a simulated Exotel.
type subject struct {
	*controllertest.Rig
	exotel *exotelsim.Server
	sent   *recorder
	// change is applied to each operator's reconciler.
	change func(*Reconciler)
	// metrics of the operator that runs.
	metrics  *Metrics
	gathered *prometheus.Registry
}

func newSubject(t *testing.T, o exotelsim.Options) *subject {
	t.Helper()
	r := &subject{
		Rig:    controllertest.New(t),
		sent:   &recorder{next: netguard.NewTransport(loopback, nil, 8)},
		change: func(*Reconciler) {},
	}
	r.Hide(key, token, "wrong-token")
	o.Key = key
	o.Token = token
	var err error
	if r.exotel, err = exotelsim.NewServer(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.exotel.Close)
	return r
}

// start runs an operator as cmd/caly does, without Exotel's pace. The test ends it, or stop does.
func (r *subject) start(t *testing.T) (stop func()) {
	t.Helper()
	mgr := r.Manager(t)
	r.gathered = prometheus.NewRegistry()
	r.metrics = NewMetrics(r.gathered)
	// Few and quick tries, so that what is away is found away at once.
	registry := resilience.NewRegistry(resilience.Options{Policy: resilience.Policy{
		MaxAttempts: 2,
		BaseDelay:   time.Millisecond,
		MaxDelay:    10 * time.Millisecond,
	}}, nil)
	fill := &Reconciler{
		Client:    mgr.GetClient(),
		APIReader: mgr.GetAPIReader(),
		Recorder:  mgr.GetEventRecorder("caly-operator"),
		Store:     r.DB,
		Registry:  registry,
		Sources:   recording.SourcePolicy{AllowHTTP: true, AllowedCIDRs: loopback},
		Transport: r.sent,
		Metrics:   r.metrics,
		Interval:  -1,
	}
	r.change(fill)
	if err := fill.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	stop = controllertest.Start(t, mgr)
	t.Cleanup(func() { r.CheckTenants(t) })
	return stop
}

// tenant makes a Tenant that is ready, with its Secret.
func (r *subject) tenant(t *testing.T, name string, change ...func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	t.Helper()
	r.putSecret(t, name, token)
	usual := func(tenant *v1alpha1.Tenant) {
		tenant.Spec.Exotel = v1alpha1.ExotelSpec{
			AccountSID:           accountSID,
			APIBaseURL:           r.exotel.URL(),
			CredentialsSecretRef: v1alpha1.SecretReference{Name: name},
			Backfill:             &v1alpha1.BackfillSpec{},
		}
		tenant.Spec.Recordings.AllowedSourceHosts = []string{r.exotel.Addr()}
	}
	tenant := tenanttest.New(r.Namespace, name, append([]func(*v1alpha1.Tenant){usual}, change...)...)
	r.Create(t, tenant)
	r.setReady(t, tenant, true)
	return tenant
}

// hold gives a Tenant its account, with a share if another Tenant has it already, and its numbers.
func (r *subject) hold(t *testing.T, tenant *v1alpha1.Tenant) {
	t.Helper()
	account := store.Name{
		Kind: store.NameAccount,
		Name: tenant.Spec.Exotel.AccountSID,
	}
	names := []store.Name{account}
	for _, number := range tenant.Spec.Exotel.PhoneNumbers {
		names = append(names, store.Name{Kind: store.NameNumber, Name: number})
	}
	if _, err := r.DB.ClaimNames(t.Context(), tenant.ID(), string(tenant.UID), names); err != nil {
		t.Fatal(err)
	}
	holders, err := r.DB.NameHolders(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	sharer := store.NameHolder{
		Tenant: tenant.ID(),
		UID:    string(tenant.UID),
	}
	if _, err := r.DB.ShareAccount(t.Context(), account.Name, holders[0], sharer); err != nil {
		t.Fatal(err)
	}
}

func (r *subject) setReady(t *testing.T, tenant *v1alpha1.Tenant, ready bool) {
	t.Helper()
	controllertest.PatchStatus(t, r.Rig, tenant, func(tenant *v1alpha1.Tenant) {
		conditions.MarkReconciling(tenant, v1alpha1.ReasonConfigFailed, "for this test")
		if ready {
			conditions.MarkReady(tenant, v1alpha1.ReasonReady, "for this test")
		}
	})
}

func (r *subject) putSecret(t *testing.T, name, token string) {
	t.Helper()
	r.PutSecret(t, name, map[string]string{"apiKey": key, "apiToken": token})
}

// annotate sets an annotation of the rig's Namespace to a JSON value.
func (r *subject) annotate(t *testing.T, key, value string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Namespace}}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, key, value)
	if err := r.Client.Patch(
		t.Context(), ns, client.RawPatch("application/merge-patch+json", []byte(patch)),
	); err != nil {
		t.Fatal(err)
	}
}

// update applies f to the Tenant as it is now.
func (r *subject) update(t *testing.T, tenant *v1alpha1.Tenant, f func(*v1alpha1.Tenant)) {
	t.Helper()
	controllertest.Update(t, r.Rig, tenant, f)
}

// until waits for the condition, for the Tenant's present generation.
func (r *subject) until(
	t *testing.T, tenant *v1alpha1.Tenant, status metav1.ConditionStatus, reason string,
) v1alpha1.BackfillStatus {
	t.Helper()
	eventually.Within(soon).Succeeds(t, func(ctx context.Context) error {
		if err := r.Client.Get(ctx, client.ObjectKeyFromObject(tenant), tenant); err != nil {
			return err
		}
		condition := apimeta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionBackfillSucceeded)
		if condition == nil || condition.Status != status || condition.Reason != reason ||
			condition.ObservedGeneration != tenant.Generation ||
			tenant.Status.Backfill == nil {
			return fmt.Errorf(
				"want %s %s at generation %d: %v", status, reason, tenant.Generation, tenant.Status.Conditions,
			)
		}
		return nil
	})
	return *tenant.Status.Backfill
}

func (r *subject) succeeded(t *testing.T, tenant *v1alpha1.Tenant) v1alpha1.BackfillStatus {
	t.Helper()
	return r.until(t, tenant, metav1.ConditionTrue, v1alpha1.ReasonBackfillSucceeded)
}

// again lets the interval pass: no operator runs, and the last run was an hour ago. Then one starts.
func (r *subject) again(t *testing.T, tenant *v1alpha1.Tenant, stop func()) (v1alpha1.BackfillStatus, func()) {
	t.Helper()
	stop()
	ago := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	if err := r.Client.Get(t.Context(), client.ObjectKeyFromObject(tenant), tenant); err != nil {
		t.Fatal(err)
	}
	controllertest.PatchStatus(t, r.Rig, tenant, func(tenant *v1alpha1.Tenant) {
		tenant.Status.Backfill.LastRunTime = &ago
		tenant.Status.Backfill.NextRunTime = &ago
	})
	stop = r.start(t)
	eventually.Within(soon).Succeeds(t, func(ctx context.Context) error {
		if err := r.Client.Get(ctx, client.ObjectKeyFromObject(tenant), tenant); err != nil {
			return err
		}
		if tenant.Status.Backfill.LastRunTime.Equal(&ago) {
			return errors.New("there was no run since")
		}
		return nil
	})
	return *tenant.Status.Backfill, stop
}

// metric is the value of the one series whose label, if it has one, has the value; false without it.
func (r *subject) metric(t *testing.T, name, label string) (float64, bool) {
	t.Helper()
	value, ok := metrictest.Values(t, r.gathered)[strings.TrimSpace(name+" "+label)]
	return value, ok
}

// runs tells how many runs of the present operator ended so.
func (r *subject) runs(t *testing.T, result string) float64 {
	t.Helper()
	n, _ := r.metric(t, "caly_backfill_runs_total", result)
	return n
}

// begun is when the i-th call started: whole seconds, since Exotel knows no others.
func begun(i int) time.Time {
	return time.Now().Add(-3*time.Hour + time.Duration(i)*time.Second).Truncate(time.Second)
}

// placed is a call with a recording at the stand-in.
func (r *subject) placed(sid string, started time.Time) exotelsim.PlacedCall {
	placedCall := exotelsim.PlacedCall{
		Call: exotelsim.Call{
			SID:          sid,
			From:         "09876543210",
			To:           "09123456789",
			Started:      started,
			Ended:        started.Add(77 * time.Second),
			RecordingURL: exotelsim.RecordingURL(r.exotel.URL(), accountSID, sid, 64),
		},
		PhoneNumber:         "08047491899",
		ConversationSeconds: 77,
		Price:               "1.500",
	}
	return placedCall
}

// deliver brings a webhook to a database, by the way that webhooks take.
func (r *subject) deliver(t *testing.T, db *store.Operator, tenant *v1alpha1.Tenant, fields url.Values) {
	t.Helper()
	cfg := compile.Tenant(tenant)
	cfg.TimeZone = "Asia/Kolkata"
	event := ingest.Build(cfg, recording.SourcePolicy{AllowHTTP: true, AllowedCIDRs: loopback}, ingest.Delivery{
		Kind:       exotel.KindStatus,
		Source:     ingest.SourceWebhook,
		Fields:     exotel.Request{RawQuery: fields.Encode()},
		ReceivedAt: time.Now(),
	})
	if _, err := db.Ingest(t.Context(), event); err != nil || event.DeadReason != "" {
		t.Fatal(err, event.DeadReason)
	}
}

// row is a call as it is in the database, with its queued recordings. The fields are the columns of rows.
type row struct {
	Tenant, SID, Direction, From, To, Custom string
	State, Seconds                           int
	Ranks                                    [4]int
	Started, Ended                           time.Time
	Recordings, Queued                       []string
}

// rows reads all calls, past every policy.
func rows(t *testing.T, pg *pgtest.Server) map[string]row {
	t.Helper()
	all := map[string]row{}
	for _, call := range pgtest.Rows[row](t, pg, `SELECT tenant, call_sid, direction, from_number, to_number, custom_field,
		state, conversation_seconds, ARRAY[direction_rank, from_rank, to_rank, custom_rank],
		coalesce(started_at, 'epoch'), coalesce(ended_at, 'epoch'), recording_ids,
		ARRAY(SELECT id || ' ' || source_url FROM recordings r WHERE r.tenant = c.tenant AND r.call_sid = c.call_sid
			ORDER BY id) FROM calls c`) {
		all[call.Tenant+" "+call.SID] = call
	}
	return all
}

// recorder notes each request as it goes out.
type recorder struct {
	next http.RoundTripper

	mu    sync.Mutex
	paths []string
	times []time.Time
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.paths, r.times = append(r.paths, req.URL.Path), append(r.times, time.Now())
	r.mu.Unlock()
	return r.next.RoundTrip(req)
}

// count counts the requests so far: all, and those about single calls.
func (r *recorder) count() (all, single int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.paths {
		if strings.Contains(p, "/Calls/") {
			single++
		}
	}
	return len(r.paths), single
}

func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paths = nil
	r.times = nil
}

func metav1Duration(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }

// ageSuspects lets an hour pass since the calls were first heard of.
func (r *subject) ageSuspects(t *testing.T) {
	t.Helper()
	r.PG.Exec(t, `UPDATE calls SET created_at = created_at - interval '1 hour'`)
}
