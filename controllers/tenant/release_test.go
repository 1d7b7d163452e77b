package tenant

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

func (r *subject) countObjects(t *testing.T, tenant string) (n int) {
	t.Helper()
	core := r.s3.Admin(t)
	for o := range core.Client.ListObjects(t.Context(), r.bucket, minio.ListObjectsOptions{
		Prefix:    tenant + "/",
		Recursive: true,
	}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		n++
	}
	pending, err := core.ListMultipartUploads(t.Context(), r.bucket, tenant+"/", "", "", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	return n + len(pending.Uploads)
}

// countRows is every row of the tenant, its own one too.
func (r *subject) countRows(t *testing.T, tenant string) int {
	t.Helper()
	return r.PG.Number(
		t,
		`SELECT (SELECT count(*) FROM recordings WHERE tenant = $1) + (SELECT count(*) FROM recording_history WHERE tenant = $1)
		+ (SELECT count(*) FROM calls WHERE tenant = $1) + (SELECT count(*) FROM call_events WHERE tenant = $1)
		+ (SELECT count(*) FROM tenants WHERE tenant = $1)`,
		tenant,
	)
}

// fill gives a tenant two objects, an unfinished upload, a call with its event, a queued recording and an uploaded one.
func (r *subject) fill(t *testing.T, tenant *v1alpha1.Tenant) {
	t.Helper()
	id := tenant.ID()
	core := r.s3.Admin(t)
	for _, key := range []string{"a.mp3", "2026/01/02/b.mp3"} {
		_, err := core.Client.PutObject(
			t.Context(), r.bucket, id+"/"+key, bytes.NewReader([]byte("audio")), 5, minio.PutObjectOptions{},
		)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := core.NewMultipartUpload(
		t.Context(), r.bucket, id+"/unfinished.mp3", minio.PutObjectOptions{},
	); err != nil {
		t.Fatal(err)
	}
	r.ingest(t, id, "uploaded")
	pod := storetest.Open(t, r.upload(t, tenant).DatabaseURL.Reveal(), store.OpenUpload)
	claimed, err := pod.Claim(t.Context(), "pod", 1, time.Minute)
	if err != nil || len(claimed) != 1 {
		t.Fatalf("claim: %v, %v", claimed, err)
	}
	result := store.Result{
		Bucket: r.bucket,
		Key:    id + "/a.mp3",
		SHA256: strings.Repeat("0", 64),
		MD5:    strings.Repeat("0", 32),
		Size:   5,
	}
	if err := pod.Complete(t.Context(), "pod", claimed[0].ID, result); err != nil {
		t.Fatal(err)
	}
	r.ingest(t, id, "queued")
	if rows, objects := r.countRows(t, id), r.countObjects(t, id); rows != 7 || objects != 3 {
		t.Fatalf("%d rows and %d objects, want 7 and 3", rows, objects)
	}
}

// ingest takes a webhook as the data plane does.
func (r *subject) ingest(t *testing.T, tenant, call string) {
	t.Helper()
	dataplane := storetest.Open(t, r.PG.DataplaneDSN, store.OpenDataplane)
	url := "https://recordings.exotel.com/" + call + ".mp3"
	event := store.Event{
		Tenant:     tenant,
		Kind:       "status",
		CallSID:    call,
		EventType:  "terminal",
		Source:     "webhook",
		Raw:        []byte("raw"),
		DedupKey:   sha256.Sum256([]byte(tenant + call)),
		Call:       store.Call{State: store.CallCompleted},
		Recordings: []store.NewRecording{{ID: recording.ID(call, url), SourceURL: url}},
	}
	if _, err := dataplane.Ingest(t.Context(), event); err != nil {
		t.Fatal(err)
	}
}

// nothingLeft wants no more of a tenant in the work namespace, and no way for its pods into the database.
func (r *subject) nothingLeft(t *testing.T, tenant *v1alpha1.Tenant) {
	t.Helper()
	for _, prefix := range []string{tenantconfig.PrefixTenant, tenantconfig.PrefixUpload} {
		if secret := r.secret(t, prefix, tenant); secret != nil {
			t.Errorf("Secret %s is left", secret.Name)
		}
	}
	job := &batchv1.Job{}
	err := r.Client.Get(t.Context(), r.uploadKey(tenant), job)
	if !apierrors.IsNotFound(err) && job.DeletionTimestamp.IsZero() {
		t.Errorf("the upload Job is left (%v)", err)
	}
	if n := r.PG.Number(t, `SELECT count(*) FROM upload_roles WHERE tenant = $1`, tenant.ID()); n != 0 {
		t.Error("the database role is left")
	}
}

// uploadKey names the upload config and the upload Job of a Tenant.
func (r *subject) uploadKey(tenant *v1alpha1.Tenant) client.ObjectKey {
	return client.ObjectKey{
		Namespace: r.Uploads,
		Name:      tenantconfig.SecretName(tenantconfig.PrefixUpload, tenant.ID()),
	}
}

func (r *subject) uploadJob(t *testing.T, tenant *v1alpha1.Tenant) *batchv1.Job {
	t.Helper()
	job := &batchv1.Job{ObjectMeta: metaOf(r.uploadKey(tenant))}
	job.Spec.Suspend = ptr.To(true)
	job.Spec.Template.Spec = podSpec()
	r.Create(t, job)
	return job
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever,
		Containers:    []corev1.Container{{Name: "upload", Image: "caly:dev"}},
	}
}

func TestDeletion(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		policy                v1alpha1.DeletionPolicy
		secretsGone           bool // as when the whole namespace goes
		wantRows, wantObjects int
	}{
		"retain":                   {v1alpha1.DeletionPolicyRetain, false, 7, 3},
		"retain, Secrets are gone": {v1alpha1.DeletionPolicyRetain, true, 7, 3},
		"delete":                   {v1alpha1.DeletionPolicyDelete, false, 0, 0},
		"delete, Secrets are gone": {v1alpha1.DeletionPolicyDelete, true, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newSubject(t)
			rig.start(t)
			tenant := rig.ready(t, "support", func(t *v1alpha1.Tenant) { t.Spec.DeletionPolicy = tc.policy })
			other := rig.ready(t, "support-2") // whose id and keys begin the same
			rig.fill(t, tenant)
			rig.fill(t, other)
			rig.uploadJob(t, tenant)
			if tc.secretsGone {
				for kind := range rig.goodSecrets() {
					rig.Delete(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
						Namespace: rig.Namespace,
						Name:      "support-" + kind,
					}})
				}
				rig.until(t, tenant, stalledFor(v1alpha1.ReasonSecretNotFound))
			}
			id := tenant.DeepCopy()
			rig.Delete(t, tenant)
			rig.UntilDeleted(t, tenant)
			rig.nothingLeft(t, id)
			rig.until(t, other, isReady)
			got := []int{
				rig.countRows(t, id.ID()),
				rig.countObjects(t, id.ID()),
				rig.countRows(t, other.ID()),
				rig.countObjects(t, other.ID()),
			}
			if diff := cmp.Diff([]int{tc.wantRows, tc.wantObjects, 7, 3}, got); diff != "" {
				t.Errorf("rows and objects, then another tenant's (-want +got):\n%s", diff)
			}
			rig.loginWorks(t, other)
		})
	}
}

// TestDeletionOfWhatNeverWorked verifies that a Tenant that never had an upload config can be deleted, because its
// bucket holds no objects.
func TestDeletionOfWhatNeverWorked(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.newTenant("support")
	tenant.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete
	rig.Create(t, tenant)
	rig.until(t, tenant, stalledFor(v1alpha1.ReasonSecretNotFound))
	id := tenant.DeepCopy()
	rig.Delete(t, tenant)
	rig.UntilDeleted(t, tenant)
	rig.nothingLeft(t, id)
}

// TestComeBack creates a Tenant under the name of a deleted one whose rows the platform gave to it before. It works
// at once.
func TestComeBack(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	rig.fill(t, tenant)
	old := rig.config(t, tenant).UID
	rig.Delete(t, tenant)
	rig.UntilDeleted(t, tenant)
	rig.decide(t, "adopt:"+old)
	tenant = rig.ready(t, "support")
	rig.suspended(t, tenant, false)
	if got := rig.config(t, tenant).UID; got == old || got != string(tenant.UID) {
		t.Errorf("the config's uid is %s, the Tenant's %s, the old one's %s", got, tenant.UID, old)
	}
	if n := rig.countRows(t, tenant.ID()); n != 7 {
		t.Errorf("%d rows, want 7", n)
	}
}

// TestDeletionWaitsForUploadPods verifies that the deletion waits for running upload pods, which could still write an
// object. Pods of an earlier version run in the work namespace.
func TestDeletionWaitsForUploadPods(t *testing.T) {
	t.Parallel()
	t.Run("upload namespace", func(t *testing.T) {
		rig := newSubject(t)
		testDeletionWaits(t, rig, rig.Uploads)
	})
	t.Run("work namespace", func(t *testing.T) {
		rig := newSubject(t)
		testDeletionWaits(t, rig, rig.Work)
	})
}

func testDeletionWaits(t *testing.T, r *subject, namespace string) {
	t.Helper()
	r.start(t)
	tenant := r.ready(t, "support", func(t *v1alpha1.Tenant) { t.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete })
	r.fill(t, tenant)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      "upload-1",
			Labels: map[string]string{
				v1alpha1.LabelTenant:          "support",
				v1alpha1.LabelTenantNamespace: r.Namespace,
				v1alpha1.LabelComponent:       "upload",
			},
		},
		Spec: podSpec(),
	}
	other := pod.DeepCopy()
	other.Name, other.Labels[v1alpha1.LabelTenant] = "upload-2", "another" // keeps nobody waiting
	r.Create(t, pod)
	r.Create(t, other)
	id := tenant.DeepCopy()
	r.Delete(t, tenant)
	r.until(t, tenant, reconcilingFor(v1alpha1.ReasonDeleting, "waiting for the last upload pod to end"))
	if n := r.countObjects(t, id.ID()); n != 3 {
		t.Errorf("%d objects while a pod runs, want 3", n)
	}
	if r.secret(t, tenantconfig.PrefixTenant, id) != nil {
		t.Error("webhooks are still taken")
	}
	r.upload(t, id) // the pod may still need it, and so does the deletion
	if err := r.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	r.UntilDeleted(t, tenant)
	r.nothingLeft(t, id)
	if n := r.countObjects(t, id.ID()); n != 0 {
		t.Errorf("%d objects, want none", n)
	}
}

// TestDeletionWaitsForCaptures verifies that the deletion waits for a data-plane pod with a capture of the last call.
// It does not wait for a pod that is silent.
func TestDeletionWaitsForCaptures(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(
		t, "support", func(t *v1alpha1.Tenant) { t.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete },
	)
	rig.PG.Number(t, `INSERT INTO captures (tenant, id, session, pod, state, bucket, object_key)
		VALUES ($1, '00000000000000a1', gen_random_uuid(), 'pod', 'recording', 'b', 'k') RETURNING 1`, tenant.ID())
	id := tenant.DeepCopy()
	rig.Delete(t, tenant)
	rig.until(t, tenant, reconcilingFor(v1alpha1.ReasonDeleting, "waiting for the captures of the last calls to end"))
	rig.PG.Number(t, `UPDATE captures SET last_seen_at = now() - interval '3 minutes' RETURNING 1`)
	rig.UntilDeleted(t, tenant)
	rig.nothingLeft(t, id)
	if n := rig.PG.Number(t, `SELECT count(*) FROM captures WHERE tenant = $1`, id.ID()); n != 0 {
		t.Errorf("%d captures are there still", n)
	}
}

// TestDeletionWithoutTheStore verifies that the status says that the bucket blocks the deletion, and that the policy
// Retain ends the wait.
func TestDeletionWithoutTheStore(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(
		t, "support", func(t *v1alpha1.Tenant) { t.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete },
	)
	rig.fill(t, tenant)
	rig.s3.Stop(t)
	id := tenant.DeepCopy()
	rig.Delete(t, tenant)
	rig.until(t, tenant, reconcilingFor(v1alpha1.ReasonDeleting, rig.bucket, "could not be deleted", "or set spec."))
	rig.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.DeletionPolicy = v1alpha1.DeletionPolicyRetain })
	rig.UntilDeleted(t, tenant)
	rig.nothingLeft(t, id)
	rig.s3.Start(t)
	if rows, objects := rig.countRows(t, id.ID()), rig.countObjects(t, id.ID()); rows != 7 || objects != 3 {
		t.Errorf("%d rows and %d objects, want all 7 and 3", rows, objects)
	}
}

// TestDeletionWithoutTheUploadConfig verifies that the operator compiles a lost upload config again, or reports which
// Secret is missing. It never skips the objects.
func TestDeletionWithoutTheUploadConfig(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		garbage     bool // instead of nothing
		secretsGone bool
	}{
		"gone":                     {false, false},
		"garbage":                  {true, false},
		"gone, Secrets as well":    {false, true},
		"garbage, Secrets are too": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newSubject(t)
			stop := rig.start(t)
			tenant := rig.ready(
				t, "support", func(t *v1alpha1.Tenant) { t.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete },
			)
			rig.fill(t, tenant)
			stop() // it would write the config again
			config := rig.secret(t, tenantconfig.PrefixUpload, tenant)
			if tc.garbage {
				config.Data[tenantconfig.Key] = []byte("{")
				if err := rig.Client.Update(t.Context(), config); err != nil {
					t.Fatal(err)
				}
			} else {
				rig.Delete(t, config)
			}
			if tc.secretsGone {
				rig.Delete(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
					Namespace: rig.Namespace,
					Name:      "support-bucket",
				}})
			}
			id := tenant.DeepCopy()
			rig.Delete(t, tenant)
			rig.start(t)
			if tc.secretsGone {
				rig.until(
					t, tenant,
					reconcilingFor(
						v1alpha1.ReasonDeleting, rig.bucket, "support-bucket", "set spec.deletionPolicy to Retain",
					),
				)
				if rows, objects := rig.countRows(t, id.ID()), rig.countObjects(t, id.ID()); rows != 7 || objects != 3 {
					t.Errorf("%d rows and %d objects, want all 7 and 3", rows, objects)
				}
				rig.PutSecret(t, "support-bucket", rig.goodSecrets()["bucket"])
			}
			// Without a watch on them it looks again after 30 s.
			eventually.Within(40*time.Second).Succeeds(t, func(ctx context.Context) error {
				if err := rig.Client.Get(ctx, client.ObjectKeyFromObject(tenant), tenant); !apierrors.IsNotFound(err) {
					return fmt.Errorf("it is still there: %v, %w", tenant.Status.Conditions, err)
				}
				return nil
			})
			rig.nothingLeft(t, id)
			if rows, objects := rig.countRows(t, id.ID()), rig.countObjects(t, id.ID()); rows != 0 || objects != 0 {
				t.Errorf("%d rows and %d objects are left", rows, objects)
			}
		})
	}
}

// TestDeletionTakesItsViews verifies that the CallRecordings that the operator created are deleted with the Tenant.
// Those that users created stay.
func TestDeletionTakesItsViews(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	other := rig.ready(t, "support-2")
	view := func(name, of, origin string) *v1alpha1.CallRecording {
		callRecording := &v1alpha1.CallRecording{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: rig.Namespace,
				Name:      name,
				Labels:    map[string]string{v1alpha1.LabelTenant: of},
			},
			Spec: v1alpha1.CallRecordingSpec{
				TenantRef: v1alpha1.TenantReference{Name: of},
				CallSID:   name,
				SourceURL: "https://recordings.exotel.com/a.mp3",
			},
		}
		if origin != "" {
			callRecording.Labels[v1alpha1.LabelOrigin] = origin
		}
		rig.Create(t, callRecording)
		return callRecording
	}
	made := view("made", tenant.Name, v1alpha1.OriginIntake)
	stay := []client.Object{view("of-another", other.Name, v1alpha1.OriginIntake), view("of-a-person", tenant.Name, "")}
	rig.Delete(t, tenant)
	rig.UntilDeleted(t, tenant)
	rig.UntilDeleted(t, made)
	for _, o := range stay {
		if err := rig.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Errorf("%s: %v", o.GetName(), err)
		}
	}
}

// TestDeletionEndedOnTheWay takes the database away in the middle of it; what was done is not needed again.
func TestDeletionEndedOnTheWay(t *testing.T) {
	rig := newSubject(t)
	stop := rig.start(t)
	tenant := rig.ready(
		t, "support", func(t *v1alpha1.Tenant) { t.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete },
	)
	rig.fill(t, tenant)
	stop()
	id := tenant.DeepCopy()
	rig.Delete(t, tenant)
	first := rig.direct()
	first.Store = noRole{rig.DB}
	ctx := log.IntoContext(t.Context(), rig.Logger())
	if err := rig.Client.Get(ctx, client.ObjectKeyFromObject(tenant), tenant); err != nil {
		t.Fatal(err)
	}
	if err := first.release(ctx, &scope{tenant: tenant}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("release: %v", err)
	}
	if rig.countRows(t, id.ID()) != 0 || rig.secret(t, tenantconfig.PrefixUpload, id) == nil {
		t.Fatal("the rows must be gone by now, and the upload config still there")
	}
	rig.start(t)
	rig.UntilDeleted(t, tenant)
	rig.nothingLeft(t, id)
}

// TestReleaseOfAnOldReading verifies that a stale reading of a deleted Tenant does not harm a new Tenant with the same
// name.
func TestReleaseOfAnOldReading(t *testing.T) {
	rig := newSubject(t)
	stop := rig.start(t)
	tenant := rig.ready(
		t, "support", func(t *v1alpha1.Tenant) { t.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete },
	)
	old := tenant.DeepCopy()
	old.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	rig.Delete(t, tenant)
	rig.UntilDeleted(t, tenant)
	release := func() {
		t.Helper()
		s := &scope{tenant: old.DeepCopy()}
		if err := rig.direct().release(log.IntoContext(t.Context(), rig.Logger()), s); !abandoned(err) {
			t.Errorf("%v; want nothing more to write", err)
		}
	}
	release()
	if n := rig.countRows(t, old.ID()); n != 0 {
		t.Errorf("%d rows came back", n)
	}
	tenant = rig.ready(t, "support")
	rig.fill(t, tenant)
	stop() // so that the controller corrects nothing meanwhile
	release()
	if rows, objects := rig.countRows(t, tenant.ID()), rig.countObjects(t, tenant.ID()); rows != 7 || objects != 3 {
		t.Errorf("%d rows and %d objects are left of the new Tenant, want 7 and 3", rows, objects)
	}
	rig.suspended(t, tenant, false)
	rig.loginWorks(t, tenant)
}

func (r *subject) sweeper(db Store) *Sweeper {
	return &Sweeper{
		Client:          r.Client,
		APIReader:       r.Client,
		Store:           db,
		WorkNamespace:   r.Work,
		UploadNamespace: r.Uploads,
		Every:           time.Hour,
	}
}

// TestSweeperMovesUploads tests that upload configs and Jobs which an earlier version had in the work namespace, where
// the data plane can read them, are removed, and nothing else is.
func TestSweeperMovesUploads(t *testing.T) {
	rig := newSubject(t)
	stop := rig.start(t)
	tenant := rig.ready(t, "support")
	stop()
	misplaced := rig.secret(t, tenantconfig.PrefixUpload, tenant)
	misplaced.ObjectMeta = metav1.ObjectMeta{Namespace: rig.Work, Name: misplaced.Name, Labels: misplaced.Labels}
	rig.Create(t, misplaced)
	oldJob := rig.uploadJob(t, tenant).DeepCopy()
	oldJob.ObjectMeta = metav1.ObjectMeta{Namespace: rig.Work, Name: oldJob.Name}
	oldJob.Spec.Selector = nil
	oldJob.Spec.Template.Labels = nil
	rig.Create(t, oldJob)
	if err := rig.sweeper(rig.DB).sweep(log.IntoContext(t.Context(), rig.Logger())); err != nil {
		t.Fatal(err)
	}
	for _, o := range []client.Object{misplaced, oldJob} {
		err := rig.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o)
		if !apierrors.IsNotFound(err) && o.GetDeletionTimestamp().IsZero() {
			t.Errorf("%T is left in the work namespace (%v)", o, err)
		}
	}
	if rig.secret(t, tenantconfig.PrefixTenant, tenant) == nil ||
		rig.secret(t, tenantconfig.PrefixUpload, tenant) == nil {
		t.Error("a Secret of the Tenant was removed")
	}
	rig.loginWorks(t, tenant)
	var list corev1.SecretList
	if err := rig.Client.List(t.Context(), &list, client.InNamespace(rig.Work)); err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Items {
		if s.Type == v1alpha1.SecretTypeUploadConfig {
			t.Errorf("Secret %s with upload credentials is in the namespace that the data plane reads", s.Name)
		}
	}
}

// noRole is the real store, but away when the role is to be dropped.
type noRole struct{ *store.Operator }

func (noRole) DropUploadRole(context.Context, string) error { return store.ErrUnavailable }

func TestSweeper(t *testing.T) {
	rig := newSubject(t)
	stop := rig.start(t)
	gone := rig.ready(t, "gone")
	living := rig.ready(t, "living")
	job := rig.uploadJob(t, gone)
	livingJob := rig.uploadJob(t, living)
	foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: rig.Work,
		Name:      "foreign",
		Labels:    map[string]string{"app.kubernetes.io/managed-by": "caly"},
	}}
	rig.Create(t, foreign)
	stop()
	id := gone.DeepCopy()
	rig.change(t, gone, func(t *v1alpha1.Tenant) { t.Finalizers = nil })
	rig.Delete(t, gone)
	rig.UntilDeleted(t, gone)

	sweeper := rig.sweeper(rig.DB)
	ctx, cancel := context.WithCancel(log.IntoContext(t.Context(), rig.Logger()))
	ended := make(chan error, 1)
	go func() { ended <- sweeper.Start(ctx) }()
	eventually.Within(soon).Succeeds(t, func(context.Context) error {
		if rig.secret(t, tenantconfig.PrefixTenant, id) != nil || rig.secret(t, tenantconfig.PrefixUpload, id) != nil {
			return fmt.Errorf("its Secrets are still there")
		}
		return nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the sweeper ended with: %v", err)
	}
	rig.nothingLeft(t, id)
	for _, o := range []client.Object{
		foreign, livingJob, rig.secret(t, tenantconfig.PrefixTenant, living),
		rig.secret(t, tenantconfig.PrefixUpload, living),
	} {
		if err := rig.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil ||
			!o.GetDeletionTimestamp().IsZero() {
			t.Errorf("%s is not the gone Tenant's and was removed (%v)", o.GetName(), err)
		}
	}
	rig.loginWorks(t, living)
	if err := rig.Client.Get(t.Context(), client.ObjectKeyFromObject(job), job); err == nil &&
		job.DeletionTimestamp.IsZero() {
		t.Error("its upload Job is left")
	}
}

// TestSweeperTriesAgain verifies that the next sweep removes what a failed sweep left. The sweeper drops the role
// before the Secret that names it.
func TestSweeperTriesAgain(t *testing.T) {
	rig := newSubject(t)
	stop := rig.start(t)
	tenant := rig.ready(t, "support")
	stop()
	id := tenant.DeepCopy()
	rig.change(t, tenant, func(t *v1alpha1.Tenant) { t.Finalizers = nil })
	rig.Delete(t, tenant)
	rig.UntilDeleted(t, tenant)
	ctx := log.IntoContext(t.Context(), rig.Logger())
	sweeper := rig.sweeper(noRole{rig.DB})
	if err := sweeper.sweep(ctx); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("sweep: %v", err)
	}
	if rig.secret(t, tenantconfig.PrefixUpload, id) == nil {
		t.Fatal("the upload config is gone, and nobody knows of the role any more")
	}
	sweeper.Store = rig.DB
	if err := sweeper.sweep(ctx); err != nil {
		t.Fatal(err)
	}
	rig.nothingLeft(t, id)
}
