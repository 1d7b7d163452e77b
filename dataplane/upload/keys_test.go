package upload

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// renewing is a rig whose store takes temporary credentials.
type renewing struct {
	*rig
	store *s3test.Strict
	mu    sync.Mutex
	used  []string // access keys, each once in a row
}

func newRenewing(t *testing.T) *renewing {
	t.Helper()
	r := &renewing{rig: newRig(t), store: s3test.NewStrict(t, s3test.Rules{}, nil)}
	r.o.ConfigPath = filepath.Join(t.TempDir(), "config.json")
	r.o.RereadKeys = time.Nanosecond
	r.o.Registry = quick()
	return r
}

// issue makes credentials that the store takes, and puts them into the config.
func (r *renewing) issue(name string, lifetime time.Duration) {
	r.t.Helper()
	key := s3test.IssuedKey{
		AccessKey: name,
		SecretKey: "secret-of-" + name,
		Token:     "token-of-" + name,
		Expires:   time.Now().Add(lifetime),
	}
	r.store.Issue(key)
	r.write(key)
}

func (r *renewing) write(key s3test.IssuedKey) {
	r.t.Helper()
	cfg := r.cfg
	cfg.Storage = tenantconfig.Storage{
		Endpoint:        r.store.URL,
		Bucket:          r.store.Bucket,
		Region:          "us-east-1",
		AccessKeyID:     secret.Sensitive(key.AccessKey),
		SecretAccessKey: secret.Sensitive(key.SecretKey),
		SessionToken:    secret.Sensitive(key.Token),
		Temporary:       &tenantconfig.Temporary{Identity: "i", Expires: key.Expires, Renew: key.Expires},
		Options:         objectstore.Options{Checksum: objectstore.ChecksumSHA256},
	}
	data, err := tenantconfig.EncodeUpload(cfg)
	if err != nil {
		r.t.Error(err)
	}
	next := r.o.ConfigPath + ".next" // the kubelet replaces a file as a whole
	if err := os.WriteFile(next, data, 0o600); err != nil {
		r.t.Error(err)
	}
	if err := os.Rename(next, r.o.ConfigPath); err != nil {
		r.t.Error(err)
	}
}

// note records whose credentials a request has.
func (r *renewing) note(req *http.Request) {
	_, rest, _ := strings.Cut(req.Header.Get("Authorization"), "Credential=")
	name, _, _ := strings.Cut(rest, "/")
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.used) == 0 || r.used[len(r.used)-1] != name {
		r.used = append(r.used, name)
	}
}

// TestCredentialsRenewed lets the credentials expire in the middle of an upload in parts, after the operator has
// replaced them.
func TestCredentialsRenewed(t *testing.T) {
	noLeak(t)
	renewing := newRenewing(t)
	renewing.issue("FIRST", time.Hour)
	id, _ := renewing.queue("long", 3*objectstore.PartSize)
	next := s3test.IssuedKey{AccessKey: "SECOND", SecretKey: "s2", Token: "t2", Expires: time.Now().Add(time.Hour)}
	renewing.store.Issue(next)
	var once sync.Once
	renewing.store.SetRules(func(rules *s3test.Rules) {
		rules.Refuse = func(req *http.Request) *s3test.Refusal {
			renewing.note(req)
			if req.URL.Query().Get("partNumber") == "1" {
				once.Do(func() {
					renewing.write(next)
					go renewing.store.Expire("FIRST") // this request is accepted first
				})
			}
			return nil
		}
	})
	if err := Run(t.Context(), renewing.o); err != nil {
		t.Fatal(err)
	}
	if rec := renewing.recording(id); rec.State != store.StateUploaded || rec.Attempts > 1 {
		t.Errorf("%s after %d attempts: %s", rec.State, rec.Attempts, rec.LastError)
	}
	if diff := cmp.Diff([]string{"FIRST", "SECOND"}, renewing.used); diff != "" {
		t.Errorf("credentials (-want +got):\n%s", diff)
	}
}

// TestCredentialsExpired waits for credentials that are renewed late. The recording is not to blame.
func TestCredentialsExpired(t *testing.T) {
	noLeak(t)
	renewing := newRenewing(t)
	renewing.o.FaultTries = 100
	renewing.issue("FIRST", -time.Minute)
	id, _ := renewing.queue("short", 100_000)
	var once sync.Once
	const late = 300 * time.Millisecond // after the first request
	asked := make(chan struct{})
	renewing.store.SetRules(func(rules *s3test.Rules) {
		rules.Refuse = func(req *http.Request) *s3test.Refusal {
			renewing.note(req)
			once.Do(func() { close(asked) })
			return nil
		}
	})
	go func() {
		<-asked
		time.Sleep(late)
		renewing.issue("SECOND", time.Hour)
	}()
	deadline := time.Now().Add(20 * time.Second)
	for renewing.recording(id).State != store.StateUploaded && time.Now().Before(deadline) {
		if err := Run(t.Context(), renewing.o); err != nil {
			t.Logf("a run ended with %v", err)
		}
		if rec := renewing.recording(id); rec.Attempts > 1 {
			t.Fatalf("the recording has %d attempts: %s %s", rec.Attempts, rec.LastErrorCode, rec.LastError)
		}
		renewing.makeDue()
	}
	if rec := renewing.recording(id); rec.State != store.StateUploaded {
		t.Errorf("%s: %s %s", rec.State, rec.LastErrorCode, rec.LastError)
	}
}
