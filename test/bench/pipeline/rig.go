package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

// rig is the cluster with Caly on it, a simulated Exotel, a bucket, and a namespace of this run.
type rig struct {
	o      options
	c      client.Client
	raw    kubernetes.Interface
	db     *pgxpool.Pool
	s3     *minio.Client
	source *exotelsim.Server
	name   string // of namespace and bucket
}

func newRig(ctx context.Context, o options) (*rig, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.QPS, cfg.Burst = 1000, 1000 // the baseline is not to be held up by its client
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	r := &rig{o: o, name: "bench-" + random(4)}
	if r.c, err = client.New(cfg, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if r.raw, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, err
	}
	if r.s3, err = minio.New(strings.TrimPrefix(o.s3Endpoint, "http://"), &minio.Options{
		Creds:  credentials.NewStaticV4(o.s3Key, o.s3Secret, ""),
		Region: "us-east-1",
	}); err != nil {
		return nil, err
	}
	if r.db, err = pgxpool.New(ctx, o.dsn); err != nil {
		return nil, err
	}
	if r.source, err = exotelsim.NewServer(exotelsim.Options{
		Listen: o.hostIP + ":0",
		Key:    "key",
		Token:  "token",
	}); err != nil {
		return nil, err
	}
	return r, r.c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.name}})
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// close removes what the run made, within a minute.
func (r *rig) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t := r.tenant()
	if r.c.Delete(ctx, t) == nil {
		for ctx.Err() == nil && r.c.Get(ctx, client.ObjectKeyFromObject(t), t) == nil {
			time.Sleep(200 * time.Millisecond)
		}
	}
	_ = r.c.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.name}})
	r.source.Close()
	r.db.Close()
}

// writes and pods that the API server has taken until now, by its own count.
func (r *rig) counters(ctx context.Context) (writes, pods float64, err error) {
	text, err := r.raw.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("read the API server's metrics: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || strings.Contains(line, `resource="leases"`) {
			continue
		}
		var n float64
		if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &n); err != nil {
			return 0, 0, fmt.Errorf("read the API server's metrics: %w", err)
		}
		for _, verb := range []string{"POST", "PUT", "PATCH", "APPLY", "DELETE"} {
			if strings.Contains(line, `verb="`+verb+`"`) {
				writes += n
			}
		}
		if strings.Contains(line, `resource="pods"`) && strings.Contains(line, `subresource=""`) &&
			strings.Contains(line, `verb="POST"`) &&
			strings.Contains(line, `code="201"`) {
			pods += n
		}
	}
	return writes, pods, nil
}

// measure runs work between two readings of the API server's counters.
func (r *rig) measure(
	ctx context.Context,
	n int,
	work func() (shown time.Duration, took time.Duration, err error),
) (figures, error) {
	w0, p0, err := r.counters(ctx)
	if err != nil {
		return figures{}, err
	}
	shown, took, err := work()
	if err != nil {
		return figures{}, err
	}
	w1, p1, err := r.counters(ctx)
	return figures{n: n, took: took, shown: shown, writes: w1 - w0, pods: p1 - p0}, err
}

// jobs is the baseline.
func (r *rig) jobs(ctx context.Context) (figures, error) {
	return r.measure(ctx, r.o.jobs, func() (time.Duration, time.Duration, error) {
		start := time.Now()
		for i := range r.o.jobs {
			if err := r.c.Create(ctx, r.job(i)); err != nil {
				return 0, 0, err
			}
		}
		err := r.until(ctx, func() (bool, error) {
			var list batchv1.JobList
			if err := r.c.List(ctx, &list, client.InNamespace(r.name)); err != nil {
				return false, err
			}
			done := 0
			for i := range list.Items {
				done += int(list.Items[i].Status.Succeeded)
			}
			return done == r.o.jobs, nil
		})
		return 0, time.Since(start), err
	})
}

func (r *rig) job(i int) *batchv1.Job {
	no, user := false, int64(65532)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.name, Name: fmt.Sprintf("one-%d", i)},
		Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy:                corev1.RestartPolicyNever,
			AutomountServiceAccountToken: &no,
			SecurityContext:              &corev1.PodSecurityContext{RunAsUser: &user},
			Containers: []corev1.Container{{
				Name:            "nothing",
				Image:           r.o.image,
				ImagePullPolicy: corev1.PullNever,
				Args:            []string{"version"},
			}},
		}}},
	}
}

func (r *rig) until(ctx context.Context, done func() (bool, error)) error {
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("not done in time")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (r *rig) tenant() *v1alpha1.Tenant {
	return &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.name, Name: "bench"},
		Spec: v1alpha1.TenantSpec{
			Exotel: v1alpha1.ExotelSpec{
				AccountSID:           "bench",
				APIBaseURL:           r.source.URL(),
				CredentialsSecretRef: v1alpha1.SecretReference{Name: "exotel"},
			},
			Webhooks: v1alpha1.WebhooksSpec{Signature: &v1alpha1.SignatureSpec{
				SecretRef: v1alpha1.SecretReference{Name: "webhook"},
				Scheme:    v1alpha1.SignatureSchemeHMACSHA1,
			}},
			Recordings: v1alpha1.RecordingsSpec{
				Bucket:               r.name,
				Endpoint:             r.o.s3Endpoint,
				Region:               "us-east-1",
				CredentialsSecretRef: &v1alpha1.SecretReference{Name: "bucket"},
				AllowedSourceHosts:   []string{strings.TrimPrefix(r.source.URL(), "http://")},
			},
			DeletionPolicy: v1alpha1.DeletionPolicyDelete,
		},
	}
}

// prepare makes bucket, Secrets and Tenant, and waits until the Tenant is Ready.
func (r *rig) prepare(ctx context.Context) error {
	if err := r.s3.MakeBucket(ctx, r.name, minio.MakeBucketOptions{Region: "us-east-1"}); err != nil {
		return err
	}
	for name, data := range map[string]map[string]string{
		"exotel":  {"apiKey": "key", "apiToken": "token"},
		"webhook": {"current": random(16)},
		"bucket":  {"accessKeyID": r.o.s3Key, "secretAccessKey": r.o.s3Secret},
	} {
		meta := metav1.ObjectMeta{
			Namespace: r.name,
			Name:      name,
			Labels:    map[string]string{"voice.caly.dev/use": "tenant"},
		}
		if err := r.c.Create(ctx, &corev1.Secret{ObjectMeta: meta, StringData: data}); err != nil {
			return err
		}
	}
	t := r.tenant()
	if err := r.c.Create(ctx, t); err != nil {
		return err
	}
	return r.until(ctx, func() (bool, error) {
		err := r.c.Get(ctx, client.ObjectKeyFromObject(t), t)
		return apimeta.IsStatusConditionTrue(t.Status.Conditions, v1alpha1.ConditionReady), err
	})
}
