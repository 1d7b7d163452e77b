package tenant

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

func TestReady(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	if !controllerutil.ContainsFinalizer(tenant, v1alpha1.FinalizerTenant) {
		t.Error("no finalizer")
	}
	base := "https://voice.example/webhooks/exotel/" + tenant.ID()
	wantURLs := []v1alpha1.WebhookURL{{
		Event: "passthru",
		URL:   base + "/passthru",
	}, {
		Event: "status",
		URL:   base + "/status",
	}}
	if diff := cmp.Diff(wantURLs, tenant.Status.WebhookURLs); diff != "" {
		t.Errorf("webhookURLs (-want +got):\n%s", diff)
	}
	for _, kind := range []string{v1alpha1.ConditionCredentialsValid, v1alpha1.ConditionStorageReachable} {
		if condition := find(tenant, kind); condition == nil || condition.Status != metav1.ConditionTrue {
			t.Errorf("%s: %v, want True", kind, condition)
		}
	}
	config := rig.config(t, tenant)
	created := tenant.CreationTimestamp.UTC()
	wantConfig := &tenantconfig.Tenant{
		Version:            tenantconfig.Version,
		ID:                 tenant.ID(),
		UID:                string(tenant.UID),
		Generation:         1,
		Created:            created,
		AccountSID:         "acme1",
		PhoneNumbers:       []string{"+918047491899"},
		TimeZone:           "Asia/Kolkata",
		AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
		Freshness:          72 * time.Hour,
		Webhooks:           signedWith("webhook-secret-0123456789"),
	}
	if diff := cmp.Diff(wantConfig, config); diff != "" {
		t.Errorf("tenant config (-want +got):\n%s", diff)
	}
	if tenant.Status.ConfigDigest != config.Digest() {
		t.Errorf("configDigest %q, and the config's is %q", tenant.Status.ConfigDigest, config.Digest())
	}
	wantUpload := &tenantconfig.Upload{
		Version:            tenantconfig.Version,
		ID:                 tenant.ID(),
		ExotelKey:          "exotel-key-7f3a",
		ExotelToken:        "exotel-token-91bc",
		AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
		Storage: tenantconfig.Storage{
			Bucket:          rig.bucket,
			Endpoint:        rig.s3.Endpoint,
			Region:          rig.s3.Region,
			AccessKeyID:     secret.Sensitive(rig.s3.AccessKey),
			SecretAccessKey: secret.Sensitive(rig.s3.SecretKey),
			Options:         objectstore.Options{Addressing: "Auto", Checksum: "SHA256"},
		},
		KeyTemplate: "{{.CallSID}}-{{.RecordingID}}",
	}
	if diff := cmp.Diff(
		wantUpload, rig.upload(t, tenant), cmpopts.IgnoreFields(tenantconfig.Upload{}, "DatabaseURL"),
	); diff != "" {
		t.Errorf("upload config (-want +got):\n%s", diff)
	}
	rig.loginWorks(t, tenant)
	rig.hasEvent(t, corev1.EventTypeNormal, v1alpha1.ReasonReady)
}

// loginWorks connects as an upload pod does.
func (r *subject) loginWorks(t *testing.T, tenant *v1alpha1.Tenant) {
	t.Helper()
	db, err := store.OpenUpload(t.Context(), r.upload(t, tenant).DatabaseURL.Reveal(), store.Options{})
	if err != nil {
		t.Errorf("the upload pods' database URL: %v", err)
		return
	}
	db.Close()
}

func (r *subject) hasEvent(t *testing.T, kind, reason string) {
	t.Helper()
	eventually.Within(soon).Succeeds(t, func(ctx context.Context) error {
		var list eventsv1.EventList
		if err := r.Client.List(ctx, &list, client.InNamespace(r.Namespace)); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Type == kind && e.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("no event %s %s among %d", kind, reason, len(list.Items))
	})
}

// TestWorkSecrets looks at how the pods find the two Secrets: by type, by labels, by name.
func TestWorkSecrets(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	for prefix, want := range map[string]struct {
		kind      corev1.SecretType
		component string
	}{
		tenantconfig.PrefixTenant: {v1alpha1.SecretTypeTenantConfig, "tenant-config"},
		tenantconfig.PrefixUpload: {v1alpha1.SecretTypeUploadConfig, "upload-config"},
	} {
		t.Run(prefix, func(t *testing.T) {
			secret := rig.secret(t, prefix, tenant)
			wantLabels := map[string]string{
				v1alpha1.LabelTenant:           "support",
				v1alpha1.LabelTenantNamespace:  rig.Namespace,
				v1alpha1.LabelComponent:        want.component,
				"app.kubernetes.io/managed-by": "caly",
			}
			if diff := cmp.Diff(wantLabels, secret.Labels); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
			if secret.Type != want.kind || len(secret.Data) != 1 || len(secret.OwnerReferences) != 0 {
				t.Errorf(
					"type %s, %d keys, owners %v; want %s, one key, and no owner, since none may be in another "+
						"namespace",
					secret.Type, len(secret.Data), secret.OwnerReferences, want.kind,
				)
			}
			// Removed or changed by hand, it comes back.
			rig.Delete(t, secret)
			eventually.Within(soon).Succeeds(t, func(context.Context) error {
				if again := rig.secret(t, prefix, tenant); again == nil || again.UID == secret.UID {
					return fmt.Errorf("it is not made again")
				}
				return nil
			})
			rig.loginWorks(t, tenant)
		})
	}
}

// TestSecretFaults gives each Secret each fault, reads the condition, and corrects only the Secret.
func TestSecretFaults(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	const notFound, keyMissing = v1alpha1.ReasonSecretNotFound, v1alpha1.ReasonSecretKeyMissing
	const (
		exotel  = "spec.exotel.credentialsSecretRef"
		bucket  = "spec.recordings.credentialsSecretRef"
		webhook = "spec.webhooks.signature.secretRef"
	)
	for name, tc := range map[string]struct {
		secret string
		data   map[string]string // nil: the Secret is not there
		reason string
		parts  []string
	}{
		"exotel, missing": {"exotel", nil, notFound, []string{exotel, "create it"}},
		"exotel, no token": {
			"exotel",
			map[string]string{"apiKey": "exotel-key"},
			keyMissing,
			[]string{exotel, `"apiToken"`, "add it"},
		},
		"exotel, empty key": {"exotel", map[string]string{
			"apiKey":   "",
			"apiToken": "x",
		}, keyMissing, []string{exotel, `"apiKey"`, "empty"}},
		"bucket, missing": {"bucket", nil, notFound, []string{bucket, "create it"}},
		"bucket, no secret key": {
			"bucket",
			map[string]string{"accessKeyID": "access-id-5c"},
			keyMissing,
			[]string{bucket, `"secretAccessKey"`},
		},
		"bucket, no access key": {
			"bucket",
			map[string]string{"secretAccessKey": "hidden-one"},
			keyMissing,
			[]string{bucket, `"accessKeyID"`},
		},
		"webhook, missing": {"webhook", nil, notFound, []string{webhook, "create it"}},
		"webhook, empty":   {"webhook", map[string]string{}, keyMissing, []string{webhook, "add a signing secret"}},
		"webhook, too short": {
			"webhook",
			map[string]string{"current": "fifteen-bytes-x"},
			keyMissing,
			[]string{`"current"`, "shorter than 16 bytes"},
		},
		"webhook, one too short": {"webhook", map[string]string{
			"a": "webhook-secret-0123456789",
			"b": "short-one",
		}, keyMissing,
			[]string{`"b"`, "shorter than 16 bytes"}},
		"exotel, token with a line break": {"exotel",
			map[string]string{"apiKey": "exotel-key-7f3a", "apiToken": "exotel-token-91bc\n"}, keyMissing,
			[]string{exotel, `key "apiToken"`, "ends in a line break"}},
		"exotel, quoted": {"exotel", map[string]string{"apiKey": `"exotel-key-7f3a"`, "apiToken": "exotel-token-91bc"},
			keyMissing, []string{exotel, `key "apiKey"`, "in quotes"}},
		"bucket, access key with a line break": {"bucket",
			map[string]string{"accessKeyID": rig.s3.AccessKey + "\n", "secretAccessKey": rig.s3.SecretKey},
			keyMissing, []string{bucket, `key "accessKeyID"`, "ends in a line break"}},
		"bucket, secret key with a line break": {"bucket",
			map[string]string{"accessKeyID": rig.s3.AccessKey, "secretAccessKey": rig.s3.SecretKey + "\r\n"},
			keyMissing, []string{bucket, `key "secretAccessKey"`, "ends in a line break"}},
		"bucket, access key with a blank": {"bucket",
			map[string]string{"accessKeyID": " " + rig.s3.AccessKey, "secretAccessKey": rig.s3.SecretKey},
			keyMissing, []string{bucket, `key "accessKeyID"`, "begins or ends with a blank"}},
		"webhook, in quotes": {"webhook", map[string]string{"current": "'webhook-secret-0123456789'"},
			keyMissing, []string{webhook, `key "current"`, "in quotes"}},
		"webhook, nul at the end": {"webhook", map[string]string{"current": "webhook-secret-0123456789\x00"},
			keyMissing, []string{webhook, `key "current"`, "NUL"}},
	} {
		t.Run(name, func(t *testing.T) {
			id := strings.NewReplacer(",", "", " ", "-").Replace(name) // each subtest its own Tenant
			all := rig.goodSecrets()
			good := all[tc.secret]
			if all[tc.secret] = tc.data; tc.data == nil {
				delete(all, tc.secret)
			}
			rig.putSecrets(t, id, all)
			tenant := rig.newTenant(id)
			rig.Create(t, tenant)
			parts := append(slices.Clone(tc.parts), fmt.Sprintf("%q", id+"-"+tc.secret))
			rig.until(
				t, tenant,
				both(
					stalledFor(tc.reason, parts...),
					has(v1alpha1.ConditionCredentialsValid, metav1.ConditionFalse, tc.reason, parts...),
				),
			)
			if rig.secret(t, tenantconfig.PrefixTenant, tenant) != nil ||
				rig.secret(t, tenantconfig.PrefixUpload, tenant) != nil {
				t.Error("a config was written all the same")
			}
			rig.PutSecret(t, id+"-"+tc.secret, good)
			rig.until(
				t, tenant,
				both(
					isReady,
					has(v1alpha1.ConditionCredentialsValid, metav1.ConditionTrue, v1alpha1.ReasonCredentialsValid),
				),
			)
		})
	}
	rig.hasEvent(t, corev1.EventTypeWarning, v1alpha1.ReasonSecretNotFound)
}

// resetting is an endpoint that takes connections and breaks them, so that no two failures read the same.
func resetting(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 1)
			_, _ = conn.Read(buf)
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}()
	return "http://" + listener.Addr().String()
}

// TestStorageFaults verifies that the status reports an unusable store, that webhooks still work, and that the operator
// does not probe the store in a loop.
func TestStorageFaults(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0") // a port where nobody listens
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + listener.Addr().String()
	_ = listener.Close()
	broken := resetting(t)
	bucketSecret := func(access, key string) map[string]string {
		return map[string]string{"accessKeyID": access, "secretAccessKey": key}
	}
	for name, tc := range map[string]struct {
		breaks func(*v1alpha1.Tenant)
		secret map[string]string
		reason string
		stall  bool
		parts  []string
	}{
		"no-such-bucket": {
			breaks: func(t *v1alpha1.Tenant) { t.Spec.Recordings.Bucket = "no-such-bucket" },
			reason: v1alpha1.ReasonBucketNotFound,
			stall:  true,
			parts:  []string{`"no-such-bucket"`, "create it, or correct spec.recordings.bucket"},
		},
		"wrong-secret-key": {
			secret: bucketSecret(rig.s3.AccessKey, "not-the-secret-key"),
			reason: v1alpha1.ReasonCredentialsRefused,
			stall:  true,
			parts: []string{rig.bucket,
				"correct the Secret that spec.recordings.credentialsSecretRef names"},
		},
		"unknown-access-key": {
			secret: bucketSecret("nobody", "not-the-secret-key"),
			reason: v1alpha1.ReasonCredentialsRefused,
			stall:  true,
			parts: []string{rig.bucket,
				"spec.recordings.credentialsSecretRef"},
		},
		"closed-port": {
			breaks: func(t *v1alpha1.Tenant) { t.Spec.Recordings.Endpoint = closed },
			reason: v1alpha1.ReasonEndpointUnreachable,
			parts:  []string{closed[len("http://"):], "correct spec.recordings.endpoint"},
		},
		"connection-breaks": {
			breaks: func(t *v1alpha1.Tenant) { t.Spec.Recordings.Endpoint = broken },
			reason: v1alpha1.ReasonEndpointUnreachable,
			parts:  []string{broken[len("http://"):]},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each mostly waits
			all := rig.goodSecrets()
			if tc.secret != nil {
				all["bucket"] = tc.secret
			}
			rig.putSecrets(t, name, all)
			tenant := rig.newTenant(name)
			if tc.breaks != nil {
				tc.breaks(tenant)
			}
			rig.Create(t, tenant)
			want := reconcilingFor
			if tc.stall {
				want = stalledFor
			}
			rig.until(
				t, tenant,
				both(
					want(tc.reason, tc.parts...),
					has(v1alpha1.ConditionStorageReachable, metav1.ConditionFalse, tc.reason, tc.parts...),
				),
			)
			rig.config(t, tenant)
			rig.loginWorks(t, tenant)
			rig.quiet(t, tenant)
			rig.putSecrets(t, name, rig.goodSecrets())
			rig.change(t, tenant, func(t *v1alpha1.Tenant) {
				t.Spec.Recordings.Bucket = rig.bucket
				t.Spec.Recordings.Endpoint = rig.s3.Endpoint
			})
			rig.until(
				t, tenant,
				both(
					isReady,
					has(
						v1alpha1.ConditionStorageReachable,
						metav1.ConditionTrue,
						v1alpha1.ReasonBucketReachable,
						rig.bucket,
					),
				),
			)
		})
	}
}

// strictTenant is a Tenant whose bucket is in a strict store.
func (r *subject) strictTenant(t *testing.T, name string, s *s3test.Strict) *v1alpha1.Tenant {
	t.Helper()
	all := r.goodSecrets()
	all["bucket"] = map[string]string{"accessKeyID": s.AccessKey, "secretAccessKey": s.SecretKey}
	r.putSecrets(t, name, all)
	tenant := r.newTenant(name)
	tenant.Spec.Recordings.Bucket = s.Bucket
	tenant.Spec.Recordings.Endpoint = s.URL
	r.Create(t, tenant)
	return tenant
}

// TestWriteChecks checks buckets that can be listed, and that require something of each object. They read Ready before,
// while no recording reached them.
func TestWriteChecks(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	t.Run("Object Lock", func(t *testing.T) {
		strict := s3test.NewStrict(t, s3test.Rules{Lock: true}, nil)
		tenant := rig.strictTenant(t, "locked", strict)
		rig.until(t, tenant, both(isReady, has(v1alpha1.ConditionStorageReachable, metav1.ConditionTrue,
			v1alpha1.ReasonBucketReachable,
			"keeps", recording.ProbeKey(tenant.ID()), "object protected by object lock")))
		want := &v1alpha1.StorageStatus{Endpoint: strict.URL, Bucket: strict.Bucket, Checksum: "SHA256"}
		if diff := cmp.Diff(want, tenant.Status.Storage); diff != "" {
			t.Errorf("status.storage (-want +got):\n%s", diff)
		}
		if got := rig.upload(t, tenant).Checksum; got != objectstore.ChecksumSHA256 {
			t.Errorf("the upload pods have the checksum %q", got)
		}
	})
	t.Run("encryption", func(t *testing.T) {
		strict := s3test.NewStrict(t, s3test.Rules{Encryption: "AES256"}, nil)
		tenant := rig.strictTenant(t, "encrypted", strict)
		rig.until(t, tenant, both(stalledFor(v1alpha1.ReasonEncryptionRequired, "SSE-S3 passes",
			"spec.recordings.encryption"),
			has(v1alpha1.ConditionStorageReachable, metav1.ConditionFalse, v1alpha1.ReasonEncryptionRequired,
				"Access Denied")))
		rig.change(t, tenant, func(t *v1alpha1.Tenant) {
			t.Spec.Recordings.Encryption = &v1alpha1.BucketEncryption{Type: v1alpha1.BucketEncryptionS3}
		})
		rig.until(t, tenant, both(isReady, has(v1alpha1.ConditionStorageReachable, metav1.ConditionTrue,
			v1alpha1.ReasonBucketReachable,
			"deleted it")))
		if left := strict.Keys(); len(left) != 0 {
			t.Errorf("the checks left %v", left)
		}
	})
	t.Run("quota", func(t *testing.T) {
		strict := s3test.NewStrict(t, s3test.Rules{Refuse: func(r *http.Request) *s3test.Refusal {
			if r.Method != http.MethodPut {
				return nil
			}
			return &s3test.Refusal{
				Status:  403,
				Code:    "QuotaExceeded",
				Message: "Your request was denied due to quota exceeded.",
			}
		}}, nil)
		tenant := rig.strictTenant(t, "full", strict)
		rig.until(
			t, tenant, stalledFor(v1alpha1.ReasonQuotaExceeded, "denied due to quota exceeded", "raise the quota"),
		)
		rig.config(t, tenant) // webhooks are taken all the same
	})
}

// quiet watches for a loop. The retries are half a minute apart; the first reconciles may come in a row, as each write
// of the operator's own wakes it.
func (r *subject) quiet(t *testing.T, tenant *v1alpha1.Tenant) {
	t.Helper()
	probes := func(most int) func(context.Context) error {
		return func(context.Context) error {
			if n := r.buckets.count(tenant.ID()); n > most {
				return fmt.Errorf("%d probes, want at most %d", n, most)
			}
			return nil
		}
	}
	eventually.For(2*time.Second).Stays(t, probes(5))
	eventually.For(3*time.Second).Stays(t, probes(r.buckets.count(tenant.ID())))
}

// TestReadyIsQuiet checks that a ready Tenant is neither probed nor written again when a client changes its status.
func TestReadyIsQuiet(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	rig.quiet(t, tenant)
	version := rig.secret(t, tenantconfig.PrefixUpload, tenant).ResourceVersion
	base := tenant.DeepCopy()
	tenant.Status.Backlog = ptr.To[int32](7) // as the upload Job's controller does
	if err := rig.Client.Status().Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	rig.quiet(t, tenant)
	rig.until(t, tenant, isReady)
	if got := rig.secret(t, tenantconfig.PrefixUpload, tenant).ResourceVersion; got != version {
		t.Error("the upload config was written again")
	}
	if tenant.Status.Backlog == nil || *tenant.Status.Backlog != 7 {
		t.Errorf("backlog %v, want 7: it is another controller's", tenant.Status.Backlog)
	}
	if n := rig.buckets.count(tenant.ID()); n != 1 {
		t.Errorf("%d probes, want 1", n)
	}
}

func TestInvalidSpec(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	for name, tc := range map[string]struct {
		breaks func(*v1alpha1.Tenant)
		parts  []string
	}{
		"time-zone": {
			func(t *v1alpha1.Tenant) { t.Spec.Exotel.TimeZone = "Asia/Calcuta" },
			[]string{"spec.exotel.timeZone", `"Asia/Calcuta"`, "such as Asia/Kolkata"},
		},
		"unknown-field": {
			func(t *v1alpha1.Tenant) { t.Spec.Recordings.KeyTemplate = "{{.RecordingID}}{{.Bucket}}" },
			[]string{"spec.recordings.keyTemplate", "{{.CallSID}}"},
		},
		"above-its-place": {
			func(t *v1alpha1.Tenant) { t.Spec.Recordings.KeyTemplate = "../{{.RecordingID}}" },
			[]string{"spec.", "recordings.keyTemplate", "'..'"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := rig.ready(t, name)
			before := rig.config(t, tenant)
			rig.change(t, tenant, tc.breaks)
			rig.until(t, tenant, stalledFor(v1alpha1.ReasonInvalidSpec, tc.parts...))
			if diff := cmp.Diff(before, rig.config(t, tenant)); diff != "" {
				t.Errorf("the last good config did not stay (-before +after):\n%s", diff)
			}
			rig.change(t, tenant, func(t *v1alpha1.Tenant) {
				t.Spec.Exotel.TimeZone = "Asia/Singapore"
				t.Spec.Recordings.KeyTemplate = "{{.RecordingID}}"
			})
			rig.until(t, tenant, isReady)
			if got := rig.config(t, tenant).TimeZone; got != "Asia/Singapore" {
				t.Errorf("time zone %q", got)
			}
		})
	}
}
