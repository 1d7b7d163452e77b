package diagnosis

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/tenant"
	"github.com/caly-dev/caly/internal/doctor"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// TestBesideOperator makes the doctor's check of a bucket in the middle of the operator's own, and the other way round.
// Neither may find what the other wrote: the operator's would stop the uploads of the Tenant.
func TestBesideOperator(t *testing.T) {
	s := newSubject(t)
	strict := s3test.NewStrict(t, s3test.Rules{}, nil)
	var meanwhile atomic.Pointer[func()]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && !r.URL.Query().Has("list-type") {
			if other := meanwhile.Swap(nil); other != nil {
				(*other)()
			}
		}
		strict.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	s.changeConfig(t, inStrict(strict, front.URL))
	upload, err := s.uploadConfig(t.Context(), s.tenant)
	if err != nil {
		t.Fatal(err)
	}
	buckets := s.Buckets.(tenant.S3)
	buckets.Key = nil
	operator := func() {
		if _, err := buckets.Probe(t.Context(), upload, true); err != nil {
			t.Errorf("the operator: %v", err)
		}
	}
	diagnose := func() {
		if found := s.Diagnosis.bucket(t.Context(), s.tenant); doctor.Worst(found) != doctor.OK {
			t.Errorf("the doctor: %+v", found)
		}
	}
	meanwhile.Store(&operator)
	diagnose()
	again := func() {
		found := s.Diagnosis.bucket(t.Context(), s.tenant)
		expect(t, check("bucket", found), "bucket", doctor.Skipped, "another caller")
	}
	meanwhile.Store(&again)
	diagnose()
	meanwhile.Store(&diagnose)
	operator()
	if meanwhile.Load() != nil {
		t.Error("a check has not read its object back")
	}
}

// inStrict leads a Tenant's uploads to a strict store at an address.
func inStrict(strict *s3test.Strict, address string) func(*tenantconfig.Upload) {
	return func(u *tenantconfig.Upload) {
		u.Checksum = objectstore.ChecksumSHA256
		u.Endpoint = address
		u.Region = "us-east-1"
		u.Bucket = strict.Bucket
		u.AccessKeyID = secret.Sensitive(strict.AccessKey)
		u.SecretAccessKey = secret.Sensitive(strict.SecretKey)
	}
}

// TestKeptObjects calls the doctor often. A bucket that keeps what a check writes gets one object a day, as from the
// operator.
func TestKeptObjects(t *testing.T) {
	s := newSubject(t)
	strict := s3test.NewStrict(t, s3test.Rules{Lock: true}, nil)
	s.changeConfig(t, inStrict(strict, strict.URL))
	versions := func() int {
		object, _ := strict.Object(recording.DoctorKey(s.tenant.ID()))
		return object.Versions
	}
	for range 5 {
		found := s.Diagnosis.bucket(t.Context(), s.tenant)
		expect(t, check("bucket", found), "bucket", doctor.OK, "kept")
	}
	if got := versions(); got != 1 {
		t.Errorf("%d versions after five checks, want 1", got)
	}
	s.Now = func() time.Time { return time.Now().Add(25 * time.Hour) }
	s.Diagnosis.bucket(t.Context(), s.tenant)
	if got := versions(); got != 2 {
		t.Errorf("%d versions after a day, want 2", got)
	}
	s.Now = time.Now
	strict.SetRules(func(r *s3test.Rules) {
		r.Refuse = func(*http.Request) *s3test.Refusal { return &s3test.Refusal{Status: 403, Code: "AccessDenied"} }
	})
	expect(t, check("bucket", s.Diagnosis.bucket(t.Context(), s.tenant)), "bucket", doctor.Critical, "bucket")
}

// TestHosts names one host in many ways, and more hosts than are asked.
func TestHosts(t *testing.T) {
	s := newSubject(t)
	hosts := func() (asked, left int) {
		for _, c := range s.tenantChecks(t.Context(), s.Rig.Namespace) {
			switch {
			case c.Area == "network" && c.Name == "list":
				left++
			case c.Area == "network":
				asked++
			}
		}
		return asked, left
	}
	for i := range maxHosts {
		s.Tenant(t, fmt.Sprint("path", i), func(o *v1alpha1.Tenant) {
			o.Spec.Exotel.APIBaseURL = s.exotel.URL + fmt.Sprint("/", i)
		})
	}
	if asked, left := hosts(); asked != 1 || left != 0 {
		t.Errorf("%d hosts are asked, %d findings of others, want 1 and 0", asked, left)
	}
	for i := range maxHosts {
		s.Tenant(t, fmt.Sprint("host", i), func(o *v1alpha1.Tenant) {
			o.Spec.Exotel.APIBaseURL = fmt.Sprintf("https://exotel-%d.example", i)
		})
	}
	if asked, left := hosts(); asked != maxHosts || left != 1 {
		t.Errorf("%d hosts are asked, %d findings of others, want %d and 1", asked, left, maxHosts)
	}
}
