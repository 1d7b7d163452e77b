package uploadjob

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
)

// TestJobIsAdmittedWhereRestrictedIsEnforced verifies that the API server accepts the Job, and that its pods pass the
// strictest of the Pod Security Standards.
func TestJobIsAdmittedWhereRestrictedIsEnforced(t *testing.T) {
	rig := controllertest.New(t)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rig.Uploads}}
	patch := client.RawPatch(
		types.MergePatchType, []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`),
	)
	if err := rig.Client.Patch(t.Context(), ns, patch); err != nil {
		t.Fatal(err)
	}
	job := newReconciler(rig, 0).newJob(rig.Tenant(t, "support"), 3)
	if err := rig.Client.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: *job.Spec.Template.ObjectMeta.DeepCopy(), Spec: job.Spec.Template.Spec}
	pod.Namespace = rig.Uploads
	pod.GenerateName = job.Name + "-"
	if err := rig.Client.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Errorf("a pod of the Job: %v", err)
	}
	// The check would notice: the same pod as root is refused.
	pod.ResourceVersion = ""
	pod.UID = ""
	pod.Name = ""
	pod.Spec.SecurityContext.RunAsNonRoot = ptr.To(false)
	if err := rig.Client.Create(t.Context(), pod, client.DryRunAll); err == nil {
		t.Error("a pod that may run as root was admitted: the namespace does not enforce")
	}
}

func TestJobHoldsNoMoreThanItsTenantsConfig(t *testing.T) {
	tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "support"}}
	reconciler := &Reconciler{UploadNamespace: "work", Image: "caly:1", ServiceAccount: "caly-upload"}
	job := reconciler.newJob(tenant, 3)
	spec := job.Spec.Template.Spec
	name := tenantconfig.SecretName(tenantconfig.PrefixUpload, "acme/support")
	if job.Namespace != "work" || job.Name != name || *job.Spec.Parallelism != 3 || job.Spec.Completions != nil {
		t.Errorf(
			"the Job is %s/%s with parallelism %d and completions %v",
			job.Namespace,
			job.Name,
			*job.Spec.Parallelism,
			job.Spec.Completions,
		)
	}
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken ||
		spec.ServiceAccountName != "caly-upload" {
		t.Error("the pods have a token of the API server")
	}
	want := []corev1.Volume{{
		Name: "config",
		VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName:  name,
			DefaultMode: ptr.To[int32](0o440),
		}},
	}}
	if diff := cmp.Diff(want, spec.Volumes); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	for _, env := range spec.Containers[0].Env {
		if env.ValueFrom != nil && env.ValueFrom.FieldRef == nil {
			t.Errorf("%s comes from %+v", env.Name, env.ValueFrom)
		}
	}
	if len(spec.Containers) != 1 || len(spec.InitContainers) != 0 || len(spec.Containers[0].EnvFrom) != 0 {
		t.Error("there is more than the upload container, or it takes its environment from elsewhere")
	}
	exit := func(code int32) *batchv1.PodFailurePolicyOnExitCodesRequirement {
		return &batchv1.PodFailurePolicyOnExitCodesRequirement{
			ContainerName: ptr.To(spec.Containers[0].Name),
			Operator:      batchv1.PodFailurePolicyOnExitCodesOpIn,
			Values:        []int32{code},
		}
	}
	policy := &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: exit(64)},
		{Action: batchv1.PodFailurePolicyActionIgnore, OnExitCodes: exit(75)},
		{
			Action: batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
		}}}
	if seconds := ptr.Deref(spec.TerminationGracePeriodSeconds, 0); seconds != 120 {
		t.Errorf("a pod has %d s to end, want the 90 s of --drain and 30 s more", seconds)
	}
	if diff := cmp.Diff(policy, job.Spec.PodFailurePolicy); diff != "" {
		t.Errorf("failure policy (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(
		tenantOfJob(t.Context(), job)[0].NamespacedName, client.ObjectKeyFromObject(tenant),
	); diff != "" {
		t.Errorf("the Job's tenant (-got +want):\n%s", diff)
	}
}

func TestJobNamesNeverMeet(t *testing.T) {
	reconciler := &Reconciler{}
	seen := map[string]string{}
	for _, o := range []v1alpha1.Tenant{{ObjectMeta: metav1.ObjectMeta{
		Namespace: "a-b",
		Name:      "c",
	}}, {ObjectMeta: metav1.ObjectMeta{
		Namespace: "a",
		Name:      "b-c",
	}}} {
		name := reconciler.newJob(&o, 1).Name
		if other, ok := seen[name]; ok {
			t.Errorf("%s and %s share the Job %s", o.ID(), other, name)
		}
		seen[name] = o.ID()
	}
}

// TestDeadlineCoversTheLargestRecording derives the Job's deadline from the size of a recording.
func TestDeadlineCoversTheLargestRecording(t *testing.T) {
	for name, tc := range map[string]struct {
		maxBytes                   int64
		wantTransfer, wantDeadline time.Duration
	}{
		"the upload pod's own bound": {0, time.Hour, 80 * time.Minute},
		"1 GiB":                      {1 << 30, time.Hour, 80 * time.Minute},
		"5 GiB":                      {5 << 30, 17476 * time.Second, 18676 * time.Second},
	} {
		reconciler := &Reconciler{MaxRecordingBytes: tc.maxBytes}
		job := reconciler.newJob(&v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "support"}}, 1)
		got := time.Duration(ptr.Deref(job.Spec.ActiveDeadlineSeconds, 0)) * time.Second
		if reconciler.transferTimeout() != tc.wantTransfer || got != tc.wantDeadline {
			t.Errorf(
				"%s: %s for a transfer and %s for the Job, want %s and %s",
				name,
				reconciler.transferTimeout(),
				got,
				tc.wantTransfer,
				tc.wantDeadline,
			)
		}
	}
}

func TestArgs(t *testing.T) {
	always := []string{
		"--config=/etc/caly/upload/config.json",
		"--metrics-listen=:8080",
		"--max-run=5m0s",
		"--drain=1m30s",
		"--transfer-timeout=1h0m0s",
	}
	tests := map[string]struct {
		r    *Reconciler
		want []string
	}{
		"the default":          {&Reconciler{}, nil},
		"plain http":           {&Reconciler{AllowHTTP: true}, []string{"--allow-http-sources"}},
		"a bound":              {&Reconciler{MaxRecordingBytes: 5000}, []string{"--max-size=5000"}},
		"plain http to stores": {&Reconciler{AllowHTTPStorage: true}, []string{"--allow-http-storage"}},
		"private stores": {&Reconciler{StorageCIDRs: []string{"10.3.0.0/16", "fd03::/16"}},
			[]string{"--allowed-storage-cidrs=10.3.0.0/16,fd03::/16"}},
		"a proxy": {&Reconciler{EgressProxy: "http://p:3128", EgressNoProxy: []string{".svc", "10.0.0.0/8"}},
			[]string{"--egress-proxy=http://p:3128", "--egress-no-proxy=.svc,10.0.0.0/8"}},
		"a collector": {
			&Reconciler{TraceEndpoint: "http://collector:4318"},
			[]string{"--trace-endpoint=http://collector:4318"},
		},
		"private ranges": {&Reconciler{SourceCIDRs: []string{"10.0.0.0/8", "fd00::/8"}},
			[]string{"--allowed-source-cidrs=10.0.0.0/8,fd00::/8"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(append(slices.Clone(always), tt.want...), tt.r.args()); diff != "" {
				t.Errorf("args (-want +got):\n%s", diff)
			}
		})
	}
}
