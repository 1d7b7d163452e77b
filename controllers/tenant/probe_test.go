package tenant

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// prober checks the bucket of a strict store, as reconciles do.
type prober struct {
	t     *testing.T
	store *s3test.Strict
	r     *Reconciler
	u     tenantconfig.Upload
	// tenant has what the checks found in its status.
	tenant v1alpha1.Tenant
}

func newProber(t *testing.T, rules s3test.Rules) *prober {
	t.Helper()
	store := s3test.NewStrict(t, rules, nil)
	p := &prober{t: t, store: store, r: &Reconciler{Buckets: S3{Transport: loopback()}}}
	p.u = tenantconfig.Upload{
		ID: "acme/support",
		Storage: tenantconfig.Storage{
			Endpoint:        store.URL,
			Region:          "us-east-1",
			Bucket:          store.Bucket,
			AccessKeyID:     secret.Sensitive(store.AccessKey),
			SecretAccessKey: secret.Sensitive(store.SecretKey),
		},
	}
	return p
}

// check returns how many objects and parts a check has sent, and its fault. The checksum that it finds is stored.
func (p *prober) check() (sent int, err error) {
	p.t.Helper()
	before := len(p.store.Asked())
	key := probeKey(&p.u)
	if last := p.r.probes.get(p.u.ID, key); !last.at.IsZero() { // the time has come
		last.at = time.Now().Add(-reprobe)
		p.r.probes.keep(p.u.ID, key, last)
	}
	s := &scope{tenant: &p.tenant, upload: new(p.u)}
	s.tenant.Namespace = "acme"
	s.tenant.Name = "support"
	last, err := p.r.look(p.t.Context(), s)
	if err == nil {
		p.u.Checksum = last.found.Checksum
		conditions.Set(&p.tenant, v1alpha1.ConditionStorageReachable, metav1.ConditionTrue,
			v1alpha1.ReasonBucketReachable, "it answers")
	}
	for _, request := range p.store.Asked()[before:] {
		if strings.HasPrefix(request, http.MethodPut+" ") {
			sent++
		}
	}
	return sent, err
}

// TestPublicEndpoint has links be made with plain http, which the platform must allow as for the endpoint.
func TestPublicEndpoint(t *testing.T) {
	upload := &tenantconfig.Upload{
		ID: "acme/support",
		Storage: tenantconfig.Storage{
			Endpoint:        "https://127.0.0.1:1",
			Region:          "us-east-1",
			Bucket:          "bucket",
			AccessKeyID:     "k",
			SecretAccessKey: "s",
		},
	}
	for name, tc := range map[string]struct {
		public  string
		allowed bool
		want    objectstore.Reason
	}{
		"none":                 {"", false, objectstore.EndpointUnreachable},
		"https":                {"https://media.test", false, objectstore.EndpointUnreachable},
		"http":                 {"http://media.test", false, objectstore.EndpointNotAllowed},
		"http that is allowed": {"http://media.test", true, objectstore.EndpointUnreachable},
	} {
		upload.PublicEndpoint = tc.public
		policy := objectstore.Policy{
			AllowHTTP:    tc.allowed,
			AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		}
		_, err := S3{Transport: objectstore.NewTransport(policy, 1)}.Probe(t.Context(), upload, true)
		var p *objectstore.ProbeError
		if !errors.As(err, &p) || p.Reason != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
		wantNamed := tc.want == objectstore.EndpointNotAllowed
		if strings.Contains(err.Error(), "spec.recordings.publicEndpoint") != wantNamed {
			t.Errorf("%s: %v; want the field named: %v", name, err, wantNamed)
		}
	}
}

// TestLinkEndpoint compiles what the API makes links with. Plain http that the platform does not allow is reported, and
// used by no link meanwhile: not even of a Tenant that was right until the platform changed.
func TestLinkEndpoint(t *testing.T) {
	for name, tc := range map[string]struct {
		endpoint, public string
		allowed          bool
		want             string
	}{
		"none":                       {"https://s3.test", "", false, "https://s3.test/"},
		"https":                      {"https://s3.test", "https://media.test", false, "https://media.test/"},
		"http":                       {"https://s3.test", "http://media.test", false, "https://s3.test/"},
		"http that is allowed":       {"https://s3.test", "http://media.test", true, "http://media.test/"},
		"a store with http":          {"http://s3.test:9000", "", false, ""},
		"a store with http, and one": {"http://s3.test:9000", "http://media.test", false, ""},
		"a store with http, another": {"http://s3.test:9000", "https://media.test", false, "https://media.test/"},
		"a store with allowed http":  {"http://s3.test:9000", "", true, "http://s3.test:9000/"},
	} {
		t.Run(name, func(t *testing.T) {
			scope := newScope()
			scope.tenant.Spec.Auth = &v1alpha1.AuthSpec{}
			recordings := &scope.tenant.Spec.Recordings
			recordings.Bucket = "bucket"
			recordings.Endpoint = tc.endpoint
			recordings.PublicEndpoint = tc.public
			policy := objectstore.Policy{AllowHTTP: tc.allowed}
			reconciler := &Reconciler{Buckets: S3{Transport: objectstore.NewTransport(policy, 1)}}
			if err := reconciler.compile(t.Context(), scope); err != nil {
				t.Fatal(err)
			}
			link, err := objectstore.PresignGet(scope.config.Storage.Config(), "acme/support/a", time.Minute)
			if scope.config.Storage.NoLinks != (tc.want == "") {
				t.Errorf("no links: %v", scope.config.Storage.NoLinks)
			}
			if tc.want == "" { // which an earlier release would make all the same
				tc.want = "https://"
			}
			if err != nil || !strings.HasPrefix(link, tc.want) {
				t.Errorf("link %.40s, %v; want one below %s", link, err, tc.want)
			}
			if scope.upload.Endpoint != tc.endpoint || scope.upload.PublicEndpoint != tc.public {
				t.Errorf(
					"the check sees %s and %s; want those of the spec",
					scope.upload.Endpoint,
					scope.upload.PublicEndpoint,
				)
			}
		})
	}
}

// age lets time pass since the last check.
func (p *prober) age(d time.Duration) {
	key := probeKey(&p.u)
	last := p.r.probes.get(p.u.ID, key)
	for _, at := range []*time.Time{&last.at, &last.wrote, &last.judged} {
		if !at.IsZero() {
			*at = at.Add(-d)
		}
	}
	p.r.probes.keep(p.u.ID, key, last)
}

// TestChecksumIsJudgedAgain has a store be upgraded to one that verifies checksums.
func TestChecksumIsJudgedAgain(t *testing.T) {
	prober := newProber(t, s3test.Rules{BlindSHA256: true, BlindCRC64: true, BlindMD5: true})
	if _, err := prober.check(); err != nil || prober.u.Checksum != objectstore.ChecksumETag {
		t.Fatalf("checksum %s, %v; want ETag", prober.u.Checksum, err)
	}
	prober.store.SetRules(func(r *s3test.Rules) { *r = s3test.Rules{Region: r.Region} })
	if sent, err := prober.check(); err != nil || sent != 1 || prober.u.Checksum != objectstore.ChecksumETag {
		t.Errorf("on the same day: checksum %s, %d bodies, %v; want ETag with one", prober.u.Checksum, sent, err)
	}
	prober.age(rejudge)
	if _, err := prober.check(); err != nil || prober.u.Checksum != objectstore.ChecksumSHA256 {
		t.Errorf("a day later: checksum %s, %v; want SHA256", prober.u.Checksum, err)
	}
	if sent, err := prober.check(); err != nil || sent != 2 {
		t.Errorf("after that: %d bodies, %v; want 2", sent, err)
	}
}

// TestKeptIsRemembered fails checks of a bucket that keeps what they write.
func TestKeptIsRemembered(t *testing.T) {
	down := func(r *s3test.Rules) {
		r.Refuse = func(*http.Request) *s3test.Refusal {
			return &s3test.Refusal{Status: 503, Code: "SlowDown", Message: "Please reduce your request rate."}
		}
	}
	up := func(r *s3test.Rules) { r.Refuse = nil }
	prober := newProber(t, s3test.Rules{Lock: true})
	if sent, err := prober.check(); err != nil || sent == 0 {
		t.Fatalf("%d bodies, %v", sent, err)
	}
	prober.store.SetRules(down)
	if _, err := prober.check(); err == nil {
		t.Fatal("no error of a store that is down")
	}
	prober.store.SetRules(up)
	if sent, err := prober.check(); err != nil || sent != 0 {
		t.Errorf("after the outage: %d bodies, %v; want none", sent, err)
	}
}

// TestFailedWriteIsSpaced checks a bucket that keeps what is written and whose key must not read it. Each write leaves
// a version.
func TestFailedWriteIsSpaced(t *testing.T) {
	prober := newProber(t, s3test.Rules{
		Lock: true,
		Refuse: func(r *http.Request) *s3test.Refusal {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, ".caly-probe") && r.URL.RawQuery == "" {
				return &s3test.Refusal{Status: 403, Code: "AccessDenied", Message: "Access Denied"}
			}
			return nil
		},
	})
	sent, first := prober.check()
	if first == nil || sent == 0 {
		t.Fatalf("%d bodies, %v; want an error", sent, first)
	}
	sent, again := prober.check()
	if again == nil || again.Error() != first.Error() || sent != 0 {
		t.Errorf("a minute later: %d bodies, %v; want the same error without a write", sent, again)
	}
	prober.age(rewriteFailed)
	prober.store.SetRules(func(r *s3test.Rules) { r.Refuse = nil })
	if sent, err := prober.check(); err != nil || sent == 0 {
		t.Errorf("later: %d bodies, %v; want a write", sent, err)
	}
}

// refuseReads has a store refuse to read and to delete the object of the check.
func refuseReads(status int, code string) func(*s3test.Rules) {
	return func(rules *s3test.Rules) {
		rules.Refuse = func(r *http.Request) *s3test.Refusal {
			if r.Method != http.MethodPut && strings.HasSuffix(r.URL.Path, ".caly-probe") && r.URL.RawQuery == "" {
				return &s3test.Refusal{Status: status, Code: code, Message: "no"}
			}
			return nil
		}
	}
}

// TestOutageIsNotHeld has a store be down right after a write. The next check writes again, or reads what was written.
func TestOutageIsNotHeld(t *testing.T) {
	for name, tc := range map[string]struct {
		rules     s3test.Rules
		wantWrite bool
	}{
		"a plain bucket": {s3test.Rules{}, true},
		"Object Lock":    {s3test.Rules{Lock: true}, false},
	} {
		prober := newProber(t, tc.rules)
		prober.store.SetRules(refuseReads(503, "SlowDown"))
		if sent, err := prober.check(); err == nil || sent == 0 {
			t.Fatalf("%s: %d bodies, %v; want an error", name, sent, err)
		}
		prober.store.SetRules(func(r *s3test.Rules) { r.Refuse = nil })
		if sent, err := prober.check(); err != nil || (sent > 0) != tc.wantWrite {
			t.Errorf("%s: after the outage: %d bodies, %v; want a write: %v", name, sent, err, tc.wantWrite)
		}
	}
}

// TestOutageLeavesFewVersions checks a bucket every five minutes during an outage of six hours. What a check writes
// stays, so few checks may write.
func TestOutageLeavesFewVersions(t *testing.T) {
	busy := &s3test.Refusal{Status: 503, Code: "SlowDown", Message: "Please reduce your request rate."}
	for name, tc := range map[string]struct {
		rules s3test.Rules
		fails func(*http.Request) bool
		most  int
	}{
		"reads, Object Lock": {s3test.Rules{Lock: true},
			func(r *http.Request) bool { return r.Method == http.MethodGet && r.URL.RawQuery == "" }, 2},
		"deletions, versions": {s3test.Rules{Versioned: true},
			func(r *http.Request) bool { return r.Method == http.MethodDelete && r.URL.Query().Has("versionId") }, 2},
		"parts, Object Lock": {s3test.Rules{Lock: true},
			func(r *http.Request) bool { return r.URL.Query().Has("uploadId") && r.Method == http.MethodPut }, 12},
		"encryption, Object Lock": {s3test.Rules{Lock: true, Encryption: "AES256"},
			func(*http.Request) bool { return false }, 25},
	} {
		t.Run(name, func(t *testing.T) {
			rules := tc.rules
			rules.Refuse = func(r *http.Request) *s3test.Refusal {
				if strings.HasSuffix(r.URL.Path, ".caly-probe") && tc.fails(r) {
					return busy
				}
				return nil
			}
			prober := newProber(t, rules)
			quick := resilience.Options{Policy: resilience.Policy{MaxAttempts: 3, BaseDelay: time.Millisecond}}
			prober.r.Buckets = S3{Transport: loopback(), Registry: resilience.NewRegistry(quick, nil)}
			key := recording.ProbeKey(prober.u.ID)
			for range 6 * time.Hour / reprobe {
				_, _ = prober.check() // it fails, or does not
				prober.age(reprobe)
			}
			strictObject, _ := prober.store.Object(key)
			if strictObject.Versions == 0 || strictObject.Versions > tc.most {
				t.Errorf("%d versions, want at most %d", strictObject.Versions, tc.most)
			}
			prober.store.SetRules(func(r *s3test.Rules) {
				r.Refuse = nil
				r.Encryption = ""
			})
			prober.age(rewriteLast)
			prober.r.Buckets = S3{Transport: loopback()} // its breaker has not opened
			if _, err := prober.check(); err != nil {
				t.Errorf("after the outage: %v", err)
			}
		})
	}
}

// TestJudgedOnce fails checks after they have found the checksum. It is found out once a day all the same.
func TestJudgedOnce(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]func(*s3test.Rules){
		"no s3:GetObject": refuseReads(403, "AccessDenied"),
		"an outage":       refuseReads(503, "SlowDown"),
	} {
		prober := newProber(t, s3test.Rules{NoSHA256: true})
		prober.store.SetRules(rules)
		if sent, err := prober.check(); err == nil || sent < 4 {
			t.Fatalf("%s: %d bodies, %v; want an error, and the checksum found out", name, sent, err)
		}
		prober.age(time.Hour)
		for range 2 {
			if sent, err := prober.check(); err == nil || sent > 2 {
				t.Errorf("%s: a while later: %d bodies, %v; want an error and at most 2", name, sent, err)
			}
			prober.age(time.Hour)
		}
		prober.store.SetRules(func(r *s3test.Rules) { r.Refuse = nil })
		if sent, err := prober.check(); err != nil || sent > 2 || prober.u.Checksum != objectstore.ChecksumCRC64NVME {
			t.Errorf(
				"%s: in the end: checksum %s, %d bodies, %v; want CRC64NVME with at most 2",
				name,
				prober.u.Checksum,
				sent,
				err,
			)
		}
	}
}

// TestRestartKeepsChecksum restarts the operator, which knows from the status what the bucket supports. A changed spec
// may need another checksum, and a failed check says nothing of it.
func TestRestartKeepsChecksum(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*prober)
		want   bool
	}{
		"nothing else has changed": {func(*prober) {}, false},
		"the spec has changed":     {func(p *prober) { p.tenant.Generation++ }, true},
		"the last check failed": {func(p *prober) {
			conditions.Set(&p.tenant, v1alpha1.ConditionStorageReachable, metav1.ConditionFalse, "AccessDenied", "no")
		}, true},
	} {
		p := newProber(t, s3test.Rules{})
		if _, err := p.check(); err != nil {
			t.Fatal(err)
		}
		p.r = &Reconciler{Buckets: S3{Transport: loopback()}}
		tc.change(p)
		if sent, err := p.check(); err != nil || (sent > 2) != tc.want {
			t.Errorf("%s: %d bodies, %v; want the checksum found out again: %v", name, sent, err, tc.want)
		}
		p.age(rejudge)
		if sent, err := p.check(); err != nil || sent <= 2 {
			t.Errorf("%s: a day later: %d bodies, %v; want the checksum found out again", name, sent, err)
		}
	}
}

// TestCompileRemembersTheChecksum compiles a Tenant whose status is from before the check of its bucket.
func TestCompileRemembersTheChecksum(t *testing.T) {
	reconciler := &Reconciler{Buckets: S3{}}
	scope := newScope()
	if err := reconciler.compile(t.Context(), scope); err != nil {
		t.Fatal(err)
	}
	if got := scope.upload.Checksum; got != "" {
		t.Fatalf("checksum %q of a bucket that nobody has checked", got)
	}
	reconciler.probes.keep(scope.tenant.ID(), probeKey(scope.upload), probed{
		found: objectstore.Finding{Checksum: objectstore.ChecksumSHA256},
	})
	if err := reconciler.compile(t.Context(), scope); err != nil {
		t.Fatal(err)
	}
	if got := scope.upload.Checksum; got != objectstore.ChecksumSHA256 {
		t.Errorf("checksum %q, want that of the last check", got)
	}
	scope.tenant.Spec.Recordings.Bucket = "another"
	if err := reconciler.compile(t.Context(), scope); err != nil {
		t.Fatal(err)
	}
	if got := scope.upload.Checksum; got != "" {
		t.Errorf("checksum %q of a bucket that nobody has checked", got)
	}
}
