package diagnosis

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/tenant"
	"github.com/caly-dev/caly/internal/doctor"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

func TestMain(m *testing.M) { controllertest.Main(m) }

// subject is a Diagnosis of a real API server, database and store, with one Tenant.
type subject struct {
	*controllertest.Rig
	*Diagnosis
	s3     *s3test.Server
	bucket string
	tenant *v1alpha1.Tenant
	exotel *httptest.Server
}

func newSubject(t *testing.T) *subject {
	t.Helper()
	s := &subject{Rig: controllertest.New(t), s3: s3test.New(t)}
	s.exotel = httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.exotel.Close)
	s.bucket = s.s3.NewBucket(t)
	s.tenant = s.Tenant(t, "support", func(o *v1alpha1.Tenant) { o.Spec.Exotel.APIBaseURL = s.exotel.URL })
	controllertest.PatchStatus(t, s.Rig, s.tenant, func(o *v1alpha1.Tenant) {
		o.Status.ObservedGeneration = o.Generation
		o.Status.Conditions = []metav1.Condition{{
			Type:               v1alpha1.ConditionReady,
			Status:             metav1.ConditionTrue,
			Reason:             "Compiled",
			LastTransitionTime: metav1.Now(),
		}}
	})
	s.writeConfig(t, s.s3.SecretKey)
	s.Diagnosis = &Diagnosis{
		Client: s.Rig.Client,
		Reader: s.Rig.Client,
		Store:  s.DB,
		Buckets: tenant.S3{
			Transport: objectstore.NewTransport(objectstore.Policy{
				AllowHTTP:    true,
				AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			}, 1),
			Key: recording.DoctorKey,
		},
		HTTP:            s.exotel.Client().Transport,
		UploadNamespace: s.Uploads,
		WorkNamespace:   s.Work,
		Now:             time.Now,
	}
	return s
}

// writeConfig writes the Tenant's upload config, as the operator does, with a secret key.
func (s *subject) writeConfig(t *testing.T, key string) {
	t.Helper()
	s.changeConfig(t, func(u *tenantconfig.Upload) { u.SecretAccessKey = secret.Sensitive(key) })
}

// changeConfig writes the Tenant's upload config with a change.
func (s *subject) changeConfig(t *testing.T, change func(*tenantconfig.Upload)) {
	t.Helper()
	upload := tenantconfig.Upload{
		Version:     tenantconfig.Version,
		ID:          s.tenant.ID(),
		KeyTemplate: "{{.RecordingID}}",
		DatabaseURL: "postgres://u:topsecret@127.0.0.1/caly",
		Storage:     *tenanttest.Storage(s.s3, s.bucket),
	}
	change(&upload)
	data, err := tenantconfig.EncodeUpload(upload)
	if err != nil {
		t.Fatal(err)
	}
	config := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Uploads,
			Name:      tenantconfig.SecretName(tenantconfig.PrefixUpload, s.tenant.ID()),
		},
		Data: map[string][]byte{tenantconfig.Key: data},
	}
	if err := s.Rig.Client.Create(t.Context(), config); err != nil {
		if err = s.Rig.Client.Update(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
}

// worst returns the worst finding of each check.
func worst(found []doctor.Finding) map[string]doctor.Severity {
	severities := map[string]doctor.Severity{}
	for _, f := range found {
		if f.Severity.Atleast(severities[f.Check]) {
			severities[f.Check] = f.Severity
		}
	}
	return severities
}

// expect checks the worst severity of a check, and that one of its findings has the text.
func expect(t *testing.T, found []doctor.Finding, check string, want doctor.Severity, text string) {
	t.Helper()
	if got := worst(found)[check]; got != want {
		t.Errorf("%s is %q, want %q: %+v", check, got, want, found)
	}
	for _, f := range found {
		if strings.Contains(f.Message+f.Fix, "topsecret") {
			t.Errorf("a finding has a secret: %+v", f)
		}
		if f.Check == check && strings.Contains(f.Message, text) {
			return
		}
	}
	t.Errorf("no finding of %s says %q: %+v", check, text, found)
}

func TestHealthyTenant(t *testing.T) {
	s := newSubject(t)
	got := worst(s.Namespace(t.Context(), s.Rig.Namespace))
	want := map[string]doctor.Severity{"bucket": doctor.OK, "Exotel's API": doctor.OK, "backlog": doctor.OK}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	objects := 0
	for object := range s.s3.Admin(t).ListObjectsIter(t.Context(), s.bucket, minio.ListObjectsOptions{Recursive: true}) {
		t.Logf("the bucket keeps %s", object.Key)
		objects++
	}
	if objects != 0 {
		t.Errorf("the check leaves %d objects in the bucket", objects)
	}
}

// TestFaultsOfTenants breaks one thing after another.
func TestFaultsOfTenants(t *testing.T) {
	s := newSubject(t)
	run := func() []doctor.Finding { return s.Namespace(t.Context(), s.Rig.Namespace) }

	s.writeConfig(t, "topsecret-and-wrong")
	expect(t, run(), "bucket", doctor.Critical, "bucket "+s.bucket)
	s.writeConfig(t, s.s3.SecretKey)
	if err := s.s3.Admin(t).RemoveBucket(t.Context(), s.bucket); err != nil {
		t.Fatal(err)
	}
	expect(t, run(), "bucket", doctor.Critical, "does not exist")

	s.Enqueue(t, s.tenant.ID(), "c1", "https://recordings.exotel.com/c1.mp3")
	s.Now = func() time.Time { return time.Now().Add(time.Hour) }
	found := run()
	expect(t, found, "backlog", doctor.Critical, "1 recordings wait for upload, the oldest for 1h0m0s")
	expect(t, found, "Exotel's API", doctor.Warning, "differ by 1h0m")
	s.Now = time.Now

	s.exotel.Close()
	expect(t, run(), "Exotel's API", doctor.Warning, "no answer")

	controllertest.PatchStatus(t, s.Rig, s.tenant, func(o *v1alpha1.Tenant) {
		o.Status.ObservedGeneration = 0
		o.Status.Conditions[0].Status = metav1.ConditionFalse
		o.Status.Conditions[0].Reason = "SecretMissing"
		o.Status.Conditions[0].Message = "Secret webhook does not exist"
		o.Status.Backfill = &v1alpha1.BackfillStatus{NextRunTime: &metav1.Time{Time: time.Now().Add(-time.Hour)}}
	})
	found = run()
	expect(t, found, "conditions", doctor.Warning, "SecretMissing: Secret webhook does not exist")
	expect(t, found, "conditions", doctor.Warning, "backfill was due")

	controllertest.PatchStatus(t, s.Rig, s.tenant, func(o *v1alpha1.Tenant) {
		o.Status.ObservedGeneration = o.Generation
		o.Status.Conditions[0].Status = metav1.ConditionTrue
		o.Status.Conditions = append(o.Status.Conditions, metav1.Condition{
			Type:               v1alpha1.ConditionSuspended,
			Status:             metav1.ConditionTrue,
			Reason:             v1alpha1.ReasonSuspended,
			LastTransitionTime: metav1.Now(),
		})
		o.Status.Backfill = nil
	})
	s.Now = func() time.Time { return time.Now().Add(time.Hour) }
	if got := worst(run()); got["backlog"] != doctor.OK || got["conditions"] != "" {
		t.Errorf("a suspended Tenant: %v", got)
	}
	s.Now = time.Now

	if err := s.Rig.Client.DeleteAllOf(t.Context(), &corev1.Secret{}, client.InNamespace(s.Uploads)); err != nil {
		t.Fatal(err)
	}
	expect(t, run(), "bucket", doctor.Skipped, "no upload config")
}

// TestDatabase looks at a real server, whose test configuration does not survive a crash.
func TestDatabase(t *testing.T) {
	s := newSubject(t)
	for _, f := range s.database(t.Context()) {
		if f.Severity != doctor.OK && !strings.Contains(f.Message, " is off") {
			t.Errorf("%+v", f)
		}
	}
	expect(t, named(s.tenant, check("role", s.role(t.Context()))), "role", doctor.OK, "complete")
	expect(t, check("dead", s.dead(t.Context())), "dead", doctor.OK, "every event was applied")

	s.PG.Exec(t, `ALTER ROLE caly_dataplane BYPASSRLS`)
	expect(
		t,
		check("server", s.database(t.Context())),
		"server",
		doctor.Critical,
		"does not bind the roles caly_dataplane",
	)
	s.PG.Exec(t, `ALTER ROLE caly_dataplane NOBYPASSRLS`)
	s.PG.Exec(
		t,
		`UPDATE goose_db_version SET version_id = version_id + 1000 WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`,
	)
	expect(t, check("server", s.database(t.Context())), "server", doctor.Critical, "the schema is at version")
	s.DB.Close()
	expect(t, check("server", s.database(t.Context())), "server", doctor.Critical, "")
	expect(t, check("dead", s.dead(t.Context())), "dead", doctor.Skipped, "cannot be counted")
}

func check(name string, found []doctor.Finding) []doctor.Finding {
	for i := range found {
		found[i].Check = name
	}
	return found
}

func TestJudge(t *testing.T) {
	healthy := store.Health{
		Version: 160004,
		Took:    3 * time.Millisecond,
		Settings: map[string]string{
			"fsync":              "on",
			"full_page_writes":   "on",
			"synchronous_commit": "on",
			"autovacuum":         "on",
		},
		Connections:    10,
		MaxConnections: 100,
		Schema:         7,
		WantSchema:     7,
	}
	for name, tc := range map[string]struct {
		change func(*store.Health)
		want   doctor.Severity
		text   string
	}{
		"healthy":          {change: func(*store.Health) {}, want: doctor.OK},
		"an old schema":    {func(h *store.Health) { h.Schema = 6 }, doctor.Critical, "version 6"},
		"a missing role":   {func(h *store.Health) { h.Missing = []string{"caly_upload"} }, doctor.Critical, "caly_upload"},
		"no fsync":         {func(h *store.Health) { h.Settings["fsync"] = "off" }, doctor.Critical, "fsync is off"},
		"an async commit":  {func(h *store.Health) { h.Settings["synchronous_commit"] = "off" }, doctor.Critical, "answered 200"},
		"an async role":    {func(h *store.Health) { h.Unsafe = []string{"caly_dataplane"} }, doctor.Critical, "answered 200"},
		"an old server":    {func(h *store.Health) { h.Version = 140001 }, doctor.Warning, "PostgreSQL 14.1"},
		"slow":             {func(h *store.Health) { h.Took = 2 * time.Second }, doctor.Warning, "took 2s"},
		"another clock":    {func(h *store.Health) { h.Clock = -time.Minute }, doctor.Warning, "differ by 1m0s"},
		"full":             {func(h *store.Health) { h.Connections = 95 }, doctor.Warning, "95 of 100"},
		"a long one":       {func(h *store.Health) { h.LongestTransaction = time.Hour }, doctor.Warning, "open for 1h0m0s"},
		"near wraparound":  {func(h *store.Health) { h.XIDAge = 1_500_000_000 }, doctor.Critical, "1500000000"},
		"no autovacuum":    {func(h *store.Health) { h.Settings["autovacuum"] = "off" }, doctor.Warning, "autovacuum"},
		"the owner's role": {func(h *store.Health) { h.Unbound = []string{"caly_operator"} }, doctor.Critical, "row-level"},
	} {
		t.Run(name, func(t *testing.T) {
			h := healthy
			h.Settings = map[string]string{}
			for key, value := range healthy.Settings {
				h.Settings[key] = value
			}
			tc.change(&h)
			found := judge(h)
			if got := doctor.Worst(found); got != tc.want || len(found) > 1 ||
				len(found) == 1 && (!strings.Contains(found[0].Message, tc.text) || found[0].Fix == "") {
				t.Errorf("%s %+v, want %s %q with a fix", got, found, tc.want, tc.text)
			}
		})
	}
}

// TestRights asks a real API server as an operator with all rights, and as one without any.
func TestRights(t *testing.T) {
	s := newSubject(t)
	expect(t, check("rights", s.rights(t.Context())), "rights", doctor.OK, "allows the operator all")

	config := rest.CopyConfig(s.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "nobody", Groups: []string{"system:authenticated"}}
	powerless, err := client.New(config, client.Options{Scheme: s.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	s.Client = powerless
	expect(
		t,
		check("rights", s.rights(t.Context())),
		"rights",
		doctor.Critical,
		"the operator may not list tenants in every namespace",
	)
}
