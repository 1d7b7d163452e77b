//go:build e2e

package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the scheme that Caly's tenants use
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

// Bounds of waits. Each is far above what a cluster with nothing else to do takes.
const (
	halfMinute = eventually.Within(30 * time.Second)
	minute     = eventually.Within(time.Minute)
	twoMinutes = eventually.Within(2 * time.Minute)
)

// Namespaces of the installation under test, as test/e2e/run.sh makes them.
const (
	releaseNamespace = "caly-system"
	workNamespace    = "caly-work"
	uploadNamespace  = "caly-uploads"
)

// env is the installation under test.
type env struct {
	client   client.Client
	kube     kubernetes.Interface // for subresources
	s3       *minio.Client
	db       *pgxpool.Pool // as the operator, which sees all rows; for checks only
	s3URL    string
	s3Key    string
	s3Secret string
	webhooks string // base URL of the data plane
	hostIP   string
}

var shared *env

func TestMain(m *testing.M) {
	env, err := connect(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	shared = env
	os.Exit(m.Run())
}

func need(names ...string) (map[string]string, error) {
	values := map[string]string{}
	for _, n := range names {
		if values[n] = os.Getenv(n); values[n] == "" {
			return nil, fmt.Errorf("%s is not set: run this suite with make e2e", n)
		}
	}
	return values, nil
}

// setting is one that a single test needs.
func setting(t *testing.T, name string) string {
	t.Helper()
	v, err := need(name)
	if err != nil {
		t.Fatal(err)
	}
	return v[name]
}

func connect(ctx context.Context) (*env, error) {
	v, err := need(
		"KUBECONFIG",
		"CALY_E2E_DSN",
		"CALY_S3_ENDPOINT",
		"CALY_S3_ACCESS_KEY",
		"CALY_S3_SECRET_KEY",
		"CALY_E2E_WEBHOOKS",
		"CALY_E2E_HOST_IP",
	)
	if err != nil {
		return nil, err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", v["KUBECONFIG"])
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.New(ctx, v["CALY_E2E_DSN"])
	if err != nil {
		return nil, err
	}
	s3, err := minio.New(strings.TrimPrefix(v["CALY_S3_ENDPOINT"], "http://"), &minio.Options{
		Creds:  credentials.NewStaticV4(v["CALY_S3_ACCESS_KEY"], v["CALY_S3_SECRET_KEY"], ""),
		Region: "us-east-1",
	})
	if err != nil {
		return nil, err
	}
	return &env{
		client:   c,
		kube:     kube,
		s3:       s3,
		db:       pool,
		s3URL:    v["CALY_S3_ENDPOINT"],
		s3Key:    v["CALY_S3_ACCESS_KEY"],
		s3Secret: v["CALY_S3_SECRET_KEY"],
		webhooks: v["CALY_E2E_WEBHOOKS"],
		hostIP:   v["CALY_E2E_HOST_IP"],
	}, nil
}

// tenant is one Tenant of a test, with what is needed to speak for it.
type tenant struct {
	*env
	ns, name, bucket, secret string
}

func (x *tenant) id() string { return x.ns + "/" + x.name }

// tenantOptions vary a test's Tenant.
type tenantOptions struct {
	source   string // base URL of the recordings' host
	endpoint string // S3 endpoint; the real one without
	policy   v1alpha1.DeletionPolicy
	// bucketSecret is in place of the good credentials, and change is made to the Tenant before it is applied.
	bucketSecret map[string]string
	change       func(*v1alpha1.Tenant)
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// newTenant makes a Tenant with all that it needs, and waits until it is Ready.
func newTenant(t *testing.T, o tenantOptions) *tenant {
	t.Helper()
	x := applyTenant(t, o)
	x.waitReady(t)
	return x
}

// applyTenant makes a namespace, a bucket, the Secrets and a Tenant.
func applyTenant(t *testing.T, o tenantOptions) *tenant {
	t.Helper()
	ctx := t.Context()
	ns := "e2e-" + randomHex(4)
	x := &tenant{env: shared, ns: ns, name: "support", bucket: ns, secret: randomHex(16)}
	if err := x.s3.MakeBucket(ctx, x.bucket, minio.MakeBucketOptions{Region: "us-east-1"}); err != nil {
		t.Fatalf("make bucket: %v", err)
	}
	x.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
	x.secretOf(t, "exotel", map[string]string{"apiKey": "key", "apiToken": "token"})
	x.secretOf(t, "webhook", map[string]string{"current": x.secret})
	if o.bucketSecret == nil {
		o.bucketSecret = map[string]string{"accessKeyID": x.s3Key, "secretAccessKey": x.s3Secret}
	}
	x.secretOf(t, "bucket", o.bucketSecret)
	obj := x.object(o)
	if o.change != nil {
		o.change(obj)
	}
	x.create(t, obj)
	t.Cleanup(x.remove)
	return x
}

func (x *tenant) object(o tenantOptions) *v1alpha1.Tenant {
	if o.endpoint == "" {
		o.endpoint = x.s3URL
	}
	if o.policy == "" {
		o.policy = v1alpha1.DeletionPolicyRetain
	}
	return tenanttest.New(x.ns, x.name, func(tenant *v1alpha1.Tenant) {
		tenant.Spec.Exotel.AccountSID = "acc" + x.ns[4:]
		tenant.Spec.Exotel.APIBaseURL = o.source
		tenant.Spec.Webhooks.Signature.Scheme = v1alpha1.SignatureSchemeHMACSHA1
		recordings := &tenant.Spec.Recordings
		recordings.Bucket = x.bucket
		recordings.Endpoint = o.endpoint
		recordings.AllowedSourceHosts = []string{strings.TrimPrefix(o.source, "http://")}
		tenant.Spec.DeletionPolicy = o.policy
	})
}

func (x *tenant) create(t *testing.T, o client.Object) {
	t.Helper()
	if err := x.client.Create(t.Context(), o); err != nil {
		t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
}

func (x *tenant) secretOf(t *testing.T, name string, data map[string]string) {
	t.Helper()
	labels := map[string]string{"voice.caly.dev/use": "tenant"}
	meta := metav1.ObjectMeta{Namespace: x.ns, Name: name, Labels: labels}
	x.create(t, &corev1.Secret{ObjectMeta: meta, StringData: data})
}

// remove deletes the Tenant and then its namespace, so that the finalizer is run while the Secrets are still there.
func (x *tenant) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	obj := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: x.ns, Name: x.name}}
	_ = x.client.Delete(ctx, obj)
	for ctx.Err() == nil && x.client.Get(ctx, client.ObjectKeyFromObject(obj), obj) == nil {
		time.Sleep(200 * time.Millisecond)
	}
	_ = x.client.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: x.ns}})
}

func (x *tenant) waitReady(t *testing.T) {
	t.Helper()
	var last v1alpha1.Tenant
	minute.Reaches(t, "the Tenant is Ready", func(ctx context.Context) (bool, string) {
		if err := x.client.Get(ctx, client.ObjectKey{Namespace: x.ns, Name: x.name}, &last); err != nil {
			return false, err.Error()
		}
		return apimeta.IsStatusConditionTrue(last.Status.Conditions, v1alpha1.ConditionReady), fmt.Sprint(
			last.Status.Conditions,
		)
	})
}

func (x *tenant) statusURL() string {
	return fmt.Sprintf("%s/webhooks/exotel/%s/%s/status", x.webhooks, x.ns, x.name)
}

// post sends one signed form to the Tenant's status webhook and returns the answer's status.
func (x *tenant) post(ctx context.Context, url, secret, body string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if secret != "" {
		mac := hmac.New(sha1.New, []byte(secret))
		mac.Write([]byte(body))
		req.Header.Set("X-Exotel-Signature", hex.EncodeToString(mac.Sum(nil)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, nil
}
