package tenant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// newScope is what the steps before compile leave.
func newScope() *scope {
	t := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "support", UID: "u", Generation: 3}}
	t.Spec.Exotel = v1alpha1.ExotelSpec{
		AccountSID:           "acme1",
		TimeZone:             "Asia/Kolkata",
		CredentialsSecretRef: v1alpha1.SecretReference{Name: "e"},
	}
	t.Spec.Webhooks.Signature = &v1alpha1.SignatureSpec{
		Scheme:    v1alpha1.SignatureSchemeHMACSHA1,
		SecretRef: v1alpha1.SecretReference{Name: "w"},
	}
	t.Spec.Recordings = v1alpha1.RecordingsSpec{
		Bucket:               "b",
		Endpoint:             "https://s3.test",
		Region:               "r",
		KeyTemplate:          "{{.RecordingID}}",
		CredentialsSecretRef: &v1alpha1.SecretReference{Name: "s"},
	}
	secret := func(data ...string) *corev1.Secret {
		s := &corev1.Secret{Data: map[string][]byte{}}
		for i := 0; i < len(data); i += 2 {
			s.Data[data[i]] = []byte(data[i+1])
		}
		return s
	}
	none := nameClaims{held: map[store.Name]bool{}}
	return &scope{
		Scope:     reconcile.Begin(t),
		tenant:    t,
		names:     none,
		exotel:    secret("apiKey", "k", "apiToken", "t"),
		bucket:    secret("accessKeyID", "a", "secretAccessKey", "s"),
		verifiers: map[string]*corev1.Secret{fieldSignature: secret("z", "last", "a", "first")},
	}
}

func capturing(yes bool) *v1alpha1.AudioSpec {
	return &v1alpha1.AudioSpec{AgentURL: "wss://bot.test", Capture: &v1alpha1.AudioCapture{Enabled: &yes}}
}

func TestCompile(t *testing.T) {
	for name, tc := range map[string]struct {
		change     func(*scope)
		wantTenant func(*tenantconfig.Tenant)
		wantUpload func(*tenantconfig.Upload)
		wantError  string
	}{
		"as it is": {},
		"suspended": {
			change:     func(s *scope) { s.suspension.Reason = v1alpha1.ReasonSuspended },
			wantTenant: func(c *tenantconfig.Tenant) { c.Suspended = true },
		},
		"an API of its own": {
			change:     func(s *scope) { s.tenant.Spec.Exotel.APIBaseURL = "https://exotel.example" },
			wantUpload: func(u *tenantconfig.Upload) { u.ExotelAPI = "https://exotel.example" },
		},
		"hosts of its own": {
			change:     func(s *scope) { s.tenant.Spec.Recordings.AllowedSourceHosts = []string{"a.test"} },
			wantTenant: func(c *tenantconfig.Tenant) { c.AllowedSourceHosts = []string{"a.test"} },
			wantUpload: func(u *tenantconfig.Upload) { u.AllowedSourceHosts = []string{"a.test"} },
		},
		"no verifier": {
			change:     func(s *scope) { s.tenant.Spec.Webhooks.Signature = nil },
			wantTenant: func(c *tenantconfig.Tenant) { c.Webhooks = nil },
		},
		"freshness": {
			change:     func(s *scope) { s.tenant.Spec.Webhooks.Freshness = &metav1.Duration{Duration: time.Hour} },
			wantTenant: func(c *tenantconfig.Tenant) { c.Freshness = time.Hour },
		},
		"an invalid range": {
			change:    func(s *scope) { s.tenant.Spec.Webhooks.AllowedCIDRs = []string{"203.0.113.0/24", "203.0.113.1"} },
			wantError: `spec.webhooks.allowedCIDRs: "203.0.113.1" is not a range such as 203.0.113.0/24`,
		},
		"phone numbers": {
			change:     func(s *scope) { s.tenant.Spec.Exotel.PhoneNumbers = []string{"+911"} },
			wantTenant: func(c *tenantconfig.Tenant) { c.PhoneNumbers = []string{"+911"} },
		},
		"time zone": {
			change:    func(s *scope) { s.tenant.Spec.Exotel.TimeZone = "IST5" },
			wantError: `spec.exotel.timeZone "IST5" is not a name of the IANA time zone database`,
		},
		"time zone is a path": {
			change:    func(s *scope) { s.tenant.Spec.Exotel.TimeZone = "../../etc/passwd" },
			wantError: "spec.exotel.timeZone",
		},
		"time zone is where the pod happens to be": {
			change:    func(s *scope) { s.tenant.Spec.Exotel.TimeZone = "Local" },
			wantError: `spec.exotel.timeZone "Local" is not a name`,
		},
		"accounts": {
			change:     func(s *scope) { s.tenant.Spec.Auth = &v1alpha1.AuthSpec{} },
			wantTenant: func(c *tenantconfig.Tenant) { c.Auth, c.Storage = wantAuth(), wantStorage() },
		},
		"accounts, all said": {
			change:     func(s *scope) { s.tenant.Spec.Auth = fullAuth() },
			wantTenant: func(c *tenantconfig.Tenant) { c.Auth, c.Storage = wantFullAuth(), wantStorage() },
		},
		"capture": {
			change: func(s *scope) { s.tenant.Spec.Audio = capturing(true) },
			wantTenant: func(c *tenantconfig.Tenant) {
				c.Storage = wantStorage()
				c.Audio = &tenantconfig.Audio{
					AgentURL:   "wss://bot.test",
					Protocol:   "exotel",
					MaxStreams: 200,
					Capture:    &tenantconfig.Capture{KeyTemplate: "{{.RecordingID}}"},
				}
			},
		},
		"no capture": {
			change: func(s *scope) { s.tenant.Spec.Audio = capturing(false) },
			wantTenant: func(c *tenantconfig.Tenant) {
				c.Audio = &tenantconfig.Audio{AgentURL: "wss://bot.test", Protocol: "exotel", MaxStreams: 200}
			},
		},
		"an invalid origin": {
			change: func(s *scope) {
				s.tenant.Spec.Auth = &v1alpha1.AuthSpec{AllowedOrigins: []string{"https://desk.acme.example:99999"}}
			},
			wantError: `spec.auth.allowedOrigins: "https://desk.acme.example:99999" names a port above 65535`,
		},
		"a limit of nothing": {
			change: func(s *scope) {
				s.tenant.Spec.Auth = &v1alpha1.AuthSpec{Limits: &v1alpha1.AuthLimitsSpec{Login: &v1alpha1.RateLimitSpec{}}}
			},
			wantError: "spec.auth.limits.login: 0 requests",
		},
		"options of the bucket": {
			change: func(s *scope) {
				recordingsSpec := &s.tenant.Spec.Recordings
				recordingsSpec.Addressing, recordingsSpec.DualStack = v1alpha1.BucketAddressingVirtualHost, new(true)
				recordingsSpec.Encryption = &v1alpha1.BucketEncryption{
					Type:     v1alpha1.BucketEncryptionKMS,
					KMSKeyID: "k",
				}
				recordingsSpec.StorageClass = "STANDARD_IA"
				recordingsSpec.Tags = []v1alpha1.BucketTag{{Name: "team", Value: "voice"}}
				recordingsSpec.PublicEndpoint = "https://media.test"
				s.bucketCA = "PEM"
				s.bucket.Data["sessionToken"] = []byte("t")
				s.tenant.Status.Storage = &v1alpha1.StorageStatus{
					Endpoint: recordingsSpec.Endpoint,
					Bucket:   recordingsSpec.Bucket,
					Checksum: "MD5",
				}
			},
			wantUpload: func(u *tenantconfig.Upload) {
				u.SessionToken = "t"
				u.Options = objectstore.Options{
					Addressing:     "VirtualHost",
					DualStack:      true,
					Encryption:     "SSE-KMS",
					KMSKeyID:       "k",
					StorageClass:   "STANDARD_IA",
					Tags:           map[string]string{"team": "voice"},
					PublicEndpoint: "https://media.test",
					CABundle:       "PEM",
					Checksum:       "MD5",
				}
			},
		},
		"checksum of another bucket": {change: func(s *scope) {
			s.tenant.Status.Storage = &v1alpha1.StorageStatus{
				Endpoint: "https://s3.test",
				Bucket:   "old",
				Checksum: "MD5",
			}
		}},
		"a KMS key for SSE-S3": {
			change: func(s *scope) {
				s.tenant.Spec.Recordings.Encryption = &v1alpha1.BucketEncryption{
					Type:     v1alpha1.BucketEncryptionS3,
					KMSKeyID: "k",
				}
			},
			wantError: "spec.recordings.encryption.kmsKeyID needs the type SSE-KMS",
		},
		"key template": {
			change:    func(s *scope) { s.tenant.Spec.Recordings.KeyTemplate = "{{.CallSID}}" },
			wantError: "spec.recordings.keyTemplate must contain {{.RecordingID}}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScope()
			if tc.change != nil {
				tc.change(s)
			}
			for _, n := range namesOf(s.tenant) {
				s.names.held[n.Name] = true
			}
			err := (&Reconciler{Buckets: S3{}}).compile(t.Context(), s)
			if tc.wantError != "" {
				wantStalled(t, err, v1alpha1.ReasonInvalidSpec, tc.wantError)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantTenant := &tenantconfig.Tenant{
				Version:            tenantconfig.Version,
				ID:                 "acme/support",
				UID:                "u",
				Generation:         3,
				AccountSID:         "acme1",
				TimeZone:           "Asia/Kolkata",
				AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
				Freshness:          72 * time.Hour,
				Webhooks:           signedWith("first", "last"),
			}
			wantUpload := &tenantconfig.Upload{
				Version:            tenantconfig.Version,
				ID:                 "acme/support",
				ExotelKey:          "k",
				ExotelToken:        "t",
				AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
				Storage: tenantconfig.Storage{
					Bucket:          "b",
					Endpoint:        "https://s3.test",
					Region:          "r",
					AccessKeyID:     "a",
					SecretAccessKey: "s",
				},
				KeyTemplate: "{{.RecordingID}}",
			}
			if tc.wantTenant != nil {
				tc.wantTenant(wantTenant)
			}
			if tc.wantUpload != nil {
				tc.wantUpload(wantUpload)
			}
			if diff := cmp.Diff(wantTenant, s.config); diff != "" {
				t.Errorf("tenant config (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(wantUpload, s.upload); diff != "" {
				t.Errorf("upload config (-want +got):\n%s", diff)
			}
		})
	}
}

// signedWith is what a signature compiles to if the spec sets only its Secret.
func signedWith(secrets ...secret.Sensitive) *tenantconfig.Webhooks {
	return &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{
		Scheme:        "HMACSHA1",
		Encoding:      "Any",
		Header:        "X-Exotel-Signature",
		SignedContent: "Body",
		Secrets:       secrets,
	}}
}

func wantStalled(t *testing.T, err error, reason, message string) {
	t.Helper()
	stop := stopOf(err)
	if stop == nil || !stop.IsStalled() || stop.Reason != reason || !strings.Contains(stop.Message, message) {
		t.Errorf("got %#v, want it stalled for %s with %q", err, reason, message)
	}
}

// TestReadyChanged has an event for each change of the condition Ready but those of its message.
func TestReadyChanged(t *testing.T) {
	ready := func(mark func(conditions.Object, string, string), reason, message string) *v1alpha1.Tenant {
		tenant := &v1alpha1.Tenant{}
		mark(tenant, reason, message)
		return tenant
	}
	stalled := ready(conditions.MarkStalled, "InvalidSpec", "m")
	for name, tc := range map[string]struct {
		before, now *v1alpha1.Tenant
		want        *reconcile.Event
	}{
		"not looked at yet": {&v1alpha1.Tenant{}, &v1alpha1.Tenant{}, nil},
		"the first one": {&v1alpha1.Tenant{}, stalled,
			&reconcile.Event{Type: "Warning", Reason: "InvalidSpec", Action: "Reconcile", Note: "m"}},
		"another message": {stalled, ready(conditions.MarkStalled, "InvalidSpec", "n"), nil},
		"another reason": {stalled, ready(conditions.MarkReconciling, "ConfigFailed", "m"),
			&reconcile.Event{Type: "Normal", Reason: "ConfigFailed", Action: "Reconcile", Note: "m"}},
		"another status": {stalled, ready(conditions.MarkReady, "InvalidSpec", "m"),
			&reconcile.Event{Type: "Normal", Reason: "InvalidSpec", Action: "Reconcile", Note: "m"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, readyChanged(tc.before, tc.now)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestStopOf finds the end of a reconcile that has a condition, in wrapped errors too.
func TestStopOf(t *testing.T) {
	stalled := reconcile.Stalled("InvalidSpec", "m")
	for name, tc := range map[string]struct {
		err           error
		want          *reconcile.Stop
		wantAbandoned bool
	}{
		"none":      {nil, nil, false},
		"a fault":   {errors.New("down"), nil, false},
		"stalled":   {fmt.Errorf("step: %w", stalled), stalled, false},
		"abandoned": {fmt.Errorf("step: %w", reconcile.Abandon(time.Second)), nil, true},
		"stale":     {stale(apierrors.NewConflict(schema.GroupResource{}, "support", nil)), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := stopOf(tc.err); got != tc.want || abandoned(tc.err) != tc.wantAbandoned {
				t.Errorf("got %v, abandoned: %t; want %v, %t", got, abandoned(tc.err), tc.want, tc.wantAbandoned)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	probeError := func(reason objectstore.Reason, stop bool) error {
		return &objectstore.ProbeError{Reason: reason, Stop: stop, Message: "m"}
	}
	person := func(reason, message string) *reconcile.Stop {
		return reconcile.Stalled(reason, "%s", message).Again(time.Minute)
	}
	retry := func(reason, message string) *reconcile.Stop {
		return reconcile.Retry(30*time.Second, reason, "%s", message)
	}
	for name, tc := range map[string]struct {
		err  error
		want *reconcile.Stop
	}{
		"no bucket":     {probeError(objectstore.BucketNotFound, true), person(v1alpha1.ReasonBucketNotFound, "m")},
		"access denied": {probeError(objectstore.AccessDenied, true), person(v1alpha1.ReasonAccessDenied, "m")},
		"clocks":        {probeError(objectstore.ClockSkew, false), retry(v1alpha1.ReasonClockSkew, "m")},
		"wrapped": {fmt.Errorf("twice: %w", probeError(objectstore.AccessDenied, true)),
			person(v1alpha1.ReasonAccessDenied, "twice: m")},
		"no answer": {probeError(objectstore.EndpointUnreachable, false),
			retry(v1alpha1.ReasonEndpointUnreachable, "m")},
		"left alone for now": {
			&resilience.OpenError{Dependency: "s3", Until: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
			retry(v1alpha1.ReasonEndpointUnreachable,
				"s3 failed several times in a row and is left alone until 2026-01-02T03:04:05Z")},
		"anything else": {errors.New("m"), retry(v1alpha1.ReasonEndpointUnreachable, "m")},
	} {
		t.Run(name, func(t *testing.T) {
			scope := newScope()
			got := stopOf((&Reconciler{}).unreachable(scope, tc.err))
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(reconcile.Stop{})); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			condition := find(scope.tenant, v1alpha1.ConditionStorageReachable)
			want := tc.want
			if condition == nil || condition.Status != metav1.ConditionFalse || condition.Reason != want.Reason ||
				condition.Message != want.Message {
				t.Errorf("condition %v", condition)
			}
		})
	}
}

func TestSecretNames(t *testing.T) {
	scope := newScope()
	if diff := cmp.Diff([]string{"e", "s", "w"}, secretNames(scope.tenant)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	allVerifiers(&scope.tenant.Spec.Webhooks, "")
	if diff := cmp.Diff(
		[]string{"e", "s", "signing", "standard", "tokens", "users"}, secretNames(scope.tenant),
	); diff != "" {
		t.Errorf("with every verifier (-want +got):\n%s", diff)
	}
	scope.tenant.Spec.Webhooks = v1alpha1.WebhooksSpec{AllowedCIDRs: []string{"203.0.113.0/24"}}
	if diff := cmp.Diff([]string{"e", "s"}, secretNames(scope.tenant)); diff != "" {
		t.Errorf("without a signature (-want +got):\n%s", diff)
	}
	scope.tenant.Spec.Audio = &v1alpha1.AudioSpec{
		HeadersSecretRef: &v1alpha1.SecretReference{Name: "headers"},
		CASecretRef:      &v1alpha1.SecretReference{Name: "ca"},
		Verification: &v1alpha1.AudioVerification{
			TokenSecretRef:     &v1alpha1.SecretReference{Name: "audio-tokens"},
			BasicAuthSecretRef: &v1alpha1.SecretReference{Name: "audio-users"},
		},
	}
	if diff := cmp.Diff(
		[]string{"e", "s", "audio-tokens", "audio-users", "headers", "ca"}, secretNames(scope.tenant),
	); diff != "" {
		t.Errorf("with audio (-want +got):\n%s", diff)
	}
}

func TestStillGood(t *testing.T) {
	pg := pgtest.New(t)
	db := storetest.Open(t, pg.OperatorDSN, store.OpenOperator)
	good, err := db.UploadDSN("caly_upload_x", "p@ss:/word")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		dsn  string
		want bool
	}{
		"this database":         {good, true},
		"another host":          {strings.Replace(good, "127.0.0.1", "db.test", 1), false},
		"another database":      {strings.Replace(good, "/t", "/u", 1), false},
		"other parameters":      {good + "&connect_timeout=1", false},
		"no user":               {"postgres://127.0.0.1/x", false},
		"empty":                 {"", false},
		"not a URL":             {"://", false},
		"in the form key=value": {"host=127.0.0.1 user=u password=p", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (&Reconciler{Store: db}).stillGood(secret.Sensitive(tc.dsn)); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestProbeCache(t *testing.T) {
	key := func(change func(*tenantconfig.Upload)) [32]byte {
		upload := &tenantconfig.Upload{Storage: tenantconfig.Storage{
			Endpoint:        "e",
			Region:          "r",
			Bucket:          "b",
			AccessKeyID:     "a",
			SecretAccessKey: "s",
		}}
		change(upload)
		return probeKey(upload)
	}
	same := key(func(*tenantconfig.Upload) {})
	now := func() probed { return probed{at: time.Now()} }
	for name, tc := range map[string]struct {
		do   func(*probeCache)
		key  [32]byte
		want bool
	}{
		"never asked":    {func(*probeCache) {}, same, false},
		"asked":          {func(c *probeCache) { c.keep("id", same, now()) }, same, true},
		"another tenant": {func(c *probeCache) { c.keep("other", same, now()) }, same, false},
		"another bucket": {func(c *probeCache) { c.keep("id", same, now()) },
			key(func(u *tenantconfig.Upload) { u.Bucket = "x" }), false},
		"another endpoint": {func(c *probeCache) { c.keep("id", same, now()) },
			key(func(u *tenantconfig.Upload) { u.Endpoint = "x" }), false},
		"another region": {func(c *probeCache) { c.keep("id", same, now()) },
			key(func(u *tenantconfig.Upload) { u.Region = "x" }), false},
		"another access key": {func(c *probeCache) { c.keep("id", same, now()) },
			key(func(u *tenantconfig.Upload) { u.AccessKeyID = "x" }), false},
		"another secret key": {func(c *probeCache) { c.keep("id", same, now()) },
			key(func(u *tenantconfig.Upload) { u.SecretAccessKey = "x" }), false},
		"another database": {func(c *probeCache) { c.keep("id", same, now()) },
			key(func(u *tenantconfig.Upload) { u.DatabaseURL = "x" }), true},
		"forgotten":             {func(c *probeCache) { c.keep("id", same, now()); c.forget("id") }, same, false},
		"another one forgotten": {func(c *probeCache) { c.keep("id", same, now()); c.forget("other") }, same, true},
		"asked long ago": {func(c *probeCache) { c.keep("id", same, probed{at: time.Now().Add(-reprobe)}) }, same,
			false},
		"found checksum": {func(c *probeCache) { c.keep("id", same, now()) },
			key(func(u *tenantconfig.Upload) { u.Checksum = objectstore.ChecksumMD5 }), true},
		"another KMS key": {func(c *probeCache) { c.keep("id", same, now()) },
			key(func(u *tenantconfig.Upload) { u.KMSKeyID = "x" }), false},
		"another session token": {func(c *probeCache) { c.keep("id", same, now()) },
			key(func(u *tenantconfig.Upload) { u.SessionToken = "x" }), false},
	} {
		t.Run(name, func(t *testing.T) {
			var c probeCache
			tc.do(&c)
			if got := time.Since(c.get("id", tc.key).at) < reprobe; got != tc.want {
				t.Errorf("fresh: %v, want %v", got, tc.want)
			}
		})
	}
	t.Run("from several workers", func(t *testing.T) {
		var c probeCache
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				id := fmt.Sprint(i)
				c.keep(id, same, now())
				if c.get(id, same).at.IsZero() {
					t.Errorf("tenant %s was forgotten", id)
				}
				c.forget(id)
			})
		}
		wg.Wait()
		if len(c.good) != 0 {
			t.Errorf("%d entries are left", len(c.good))
		}
	})
}

// storageOf is a new bucket of a store.
func storageOf(t *testing.T, server *s3test.Server) tenantconfig.Storage {
	t.Helper()
	return tenantconfig.Storage{
		Endpoint:        server.Endpoint,
		Region:          server.Region,
		Bucket:          server.NewBucket(t),
		AccessKeyID:     secret.Sensitive(server.AccessKey),
		SecretAccessKey: secret.Sensitive(server.SecretKey),
	}
}

// TestS3 asks a real store with and without breakers.
func TestS3(t *testing.T) {
	server := s3test.New(t)
	upload := &tenantconfig.Upload{ID: "acme/support", Storage: storageOf(t, server)}
	quick := resilience.Options{FailureThreshold: 1, OpenFor: time.Hour, Policy: resilience.Policy{MaxAttempts: 1}}
	for name, buckets := range map[string]S3{
		"with breakers": {
			Registry:  resilience.NewRegistry(quick, nil),
			Transport: loopback(),
		},
		"without": {Transport: loopback()},
	} {
		t.Run(name, func(t *testing.T) {
			want := objectstore.Finding{Checksum: objectstore.ChecksumSHA256}
			if got, err := buckets.Probe(t.Context(), upload, true); err != nil || got != want {
				t.Errorf("Probe: %+v, %v, want %+v", got, err, want)
			}
			if err := buckets.DeletePrefix(t.Context(), upload, "acme/support/"); err != nil {
				t.Errorf("DeletePrefix: %v", err)
			}
			wrong := *upload
			wrong.Bucket = "no-such-bucket"
			var p *objectstore.ProbeError
			if _, err := buckets.Probe(t.Context(), &wrong, true); !errors.As(err, &p) ||
				p.Reason != objectstore.BucketNotFound {
				t.Errorf("Probe of no bucket: %v", err)
			}
			wrong.Endpoint = "nonsense"
			if _, err := buckets.Probe(context.Background(), &wrong, true); err == nil {
				t.Error("Probe of no endpoint: no error")
			}
		})
	}
}

// TestCorrectedEndpoint verifies that a breaker that a wrong endpoint opened does not block the corrected endpoint.
func TestCorrectedEndpoint(t *testing.T) {
	server := s3test.New(t)
	quick := resilience.Options{FailureThreshold: 1, OpenFor: time.Hour, Policy: resilience.Policy{MaxAttempts: 1}}
	reconciler := &Reconciler{Buckets: S3{Registry: resilience.NewRegistry(quick, nil), Transport: loopback()}}
	scope := newScope()
	scope.upload = &tenantconfig.Upload{ID: "acme/support", Storage: storageOf(t, server)}
	scope.upload.Checksum = objectstore.ChecksumSHA256 // which the pods have
	scope.upload.Endpoint = "http://127.0.0.1:1"
	var open *resilience.OpenError
	for _, wantOpen := range []bool{false, true} {
		_, err := reconciler.Buckets.Probe(t.Context(), scope.upload, true)
		if err == nil || errors.As(err, &open) != wantOpen {
			t.Fatalf("got %v; the breaker must be open: %v", err, wantOpen)
		}
	}
	scope.upload.Endpoint = server.Endpoint
	if err := reconciler.probe(t.Context(), scope); err != nil {
		t.Errorf("probe of the right endpoint: %v", err)
	}
}
