package uploadjob

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
)

// templated is the pod template of a tenant's Job.
func templated(t *testing.T, patch string) corev1.PodTemplateSpec {
	t.Helper()
	podTemplate, err := ParsePodTemplate([]byte(patch))
	if err != nil {
		t.Fatal(err)
	}
	reconciler := &Reconciler{
		UploadNamespace: "work",
		Image:           "caly:1",
		ServiceAccount:  "caly-upload",
		PodTemplate:     podTemplate,
	}
	return reconciler.newJob(&v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "support"}},
		1).Spec.Template
}

func env(t *testing.T, c corev1.Container, name string) string {
	t.Helper()
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func TestWithoutTemplate(t *testing.T) {
	got := templated(t, "")
	want := map[string]string{"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}
	if diff := cmp.Diff(want, got.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if limit := env(t, got.Spec.Containers[0], "GOMEMLIMIT"); limit != "214748364" {
		t.Errorf("GOMEMLIMIT is %s, want four fifths of 256 MiB", limit)
	}
	for _, toleration := range got.Spec.Tolerations {
		if *toleration.TolerationSeconds != 60 || toleration.Effect != corev1.TaintEffectNoExecute {
			t.Errorf("toleration %+v", toleration)
		}
	}
	if len(got.Spec.Tolerations) != 2 {
		t.Errorf("%d tolerations, want those of a node that does not answer", len(got.Spec.Tolerations))
	}
}

// TestTemplate sets everything that an installation may need.
func TestTemplate(t *testing.T) {
	got := templated(t, `
metadata:
  labels: {team: voice, voice.caly.dev/tenant: another}
  annotations: {linkerd.io/inject: enabled, sidecar.istio.io/inject: null}
spec:
  restartPolicy: Always
  serviceAccountName: cluster-admin
  automountServiceAccountToken: true
  priorityClassName: batch
  nodeSelector: {pool: uploads}
  imagePullSecrets: [{name: registry}]
  securityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}
  tolerations: [{key: spot, operator: Exists}, {key: node.kubernetes.io/not-ready, operator: Exists}]
  containers:
    - name: upload
      env: [{name: CALY_LOG_LEVEL, value: debug}]
      resources: {limits: {memory: 1Gi}}
`)
	spec := got.Spec
	container := got.Spec.Containers[0]
	if got.Labels["team"] != "voice" || got.Labels[v1alpha1.LabelTenant] != "support" {
		t.Errorf("labels %v", got.Labels)
	}
	if diff := cmp.Diff(map[string]string{"linkerd.io/inject": "enabled"}, got.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if spec.RestartPolicy != corev1.RestartPolicyNever || spec.ServiceAccountName != "caly-upload" ||
		*spec.AutomountServiceAccountToken {
		t.Errorf("restart policy %s, service account %s, token %v", spec.RestartPolicy, spec.ServiceAccountName,
			*spec.AutomountServiceAccountToken)
	}
	if spec.PriorityClassName != "batch" || spec.NodeSelector["pool"] != "uploads" ||
		spec.ImagePullSecrets[0].Name != "registry" {
		t.Errorf("placement %+v", spec)
	}
	if s := spec.SecurityContext; s.RunAsUser != nil || s.RunAsGroup != nil || s.FSGroup != nil ||
		!*s.RunAsNonRoot || s.SeccompProfile == nil {
		t.Errorf("security context %+v", s)
	}
	if len(spec.Tolerations) != 3 || spec.Tolerations[1].TolerationSeconds != nil {
		t.Errorf("tolerations %+v", spec.Tolerations)
	}
	if env(t, container, "CALY_LOG_LEVEL") != "debug" || env(t, container, "GOMEMLIMIT") != "858993456" {
		t.Errorf("environment %v", container.Env)
	}
	if container.Image != "caly:1" || !container.Resources.Limits.Memory().Equal(resource.MustParse("1Gi")) ||
		!container.Resources.Requests.Cpu().Equal(resource.MustParse("50m")) || len(container.VolumeMounts) != 1 {
		t.Errorf("container %+v", container)
	}
}

// TestTemplatedJobIsTaken gives a Job with a template to the API server.
func TestTemplatedJobIsTaken(t *testing.T) {
	rig := controllertest.New(t)
	podTemplate, err := ParsePodTemplate(
		[]byte(`{"spec": {"securityContext": {"runAsUser": null}, "nodeSelector": {"a": "b"}}}`),
	)
	if err != nil {
		t.Fatal(err)
	}
	reconciler := newReconciler(rig, 0)
	reconciler.PodTemplate = podTemplate
	if err := rig.Client.Create(
		t.Context(), reconciler.newJob(rig.Tenant(t, "support"), 1), client.DryRunAll,
	); err != nil {
		t.Error(err)
	}
}

func TestBadTemplates(t *testing.T) {
	for name, tc := range map[string]struct{ patch, want string }{
		"no YAML":          {"{", "not a part of a PodTemplateSpec"},
		"an unknown field": {"spec: {nodeSelectors: {a: b}}", "nodeSelectors"},
		"the wrong type":   {"spec: {nodeSelector: x}", "not a part of a PodTemplateSpec"},
		"no upload":        {"spec: {containers: [{name: upload, $patch: delete}]}", "$patch"},
		"containers away":  {"spec: {containers: null}", `removes the container "upload"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParsePodTemplate([]byte(tc.patch)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
