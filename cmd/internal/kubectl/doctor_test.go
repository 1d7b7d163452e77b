package kubectl

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/adminapi/server"
	"github.com/caly-dev/caly/internal/doctor"
	"github.com/caly-dev/caly/internal/testkit/admintest"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

// found is a Doctor with one finding for the cluster and one for a namespace.
type found struct{}

func (found) Platform(context.Context) []doctor.Finding {
	return []doctor.Finding{{Area: "database", Check: "server", Severity: doctor.OK, Message: "the whole platform"}}
}

func (found) Namespace(_ context.Context, namespace string) []doctor.Finding {
	return []doctor.Finding{{
		Area:     "storage",
		Check:    "bucket",
		Severity: doctor.Critical,
		Object:   namespace + "/support",
		Message:  "the bucket does not exist",
		Fix:      "create it",
	}}
}

func withDoctor(_ *admintest.Rig, o *server.Options) { o.Doctor = found{} }

// installation makes the objects of a chart in a namespace, with a pod that has not started.
func installation(t *testing.T, r *admintest.Rig, namespace string) {
	t.Helper()
	for _, name := range []string{componentOperator, componentDataplane} {
		labels := map[string]string{"app.kubernetes.io/part-of": "caly", componentLabel: name}
		template := corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{
				Containers: []corev1.Container{{
					Name:  name,
					Image: "caly:v1.2.3",
					Args:  []string{name, "--upload-namespace=" + r.Uploads},
				}},
				Volumes: []corev1.Volume{{
					Name: "database",
					VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
						SecretName: "db-" + name,
						Items:      []corev1.KeyToPath{{Key: "url", Path: "url"}},
					}},
				}},
			},
		}
		r.Create(t, &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "caly-" + name, Labels: labels},
			Spec: appsv1.DeploymentSpec{
				Replicas: ptr.To[int32](1),
				Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: template,
			},
		})
	}
	r.Create(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "db-operator"},
		StringData: map[string]string{"password": "topsecret"},
	})
	r.Create(t, &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      "caly-dataplane",
			Labels:    map[string]string{"app.kubernetes.io/part-of": "caly"},
		},
		Spec: networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{
				Name: "caly",
				Port: networkingv1.ServiceBackendPort{Number: 80},
			},
		}},
	})
}

// TestDoctor runs all checks against an installation that is broken in known ways.
func TestDoctor(t *testing.T) {
	r := admintest.New(t, withDoctor)
	installation(t, r, r.Work)
	r.Grant(t, r.Namespace, "admin", admintest.Named(rbacv1.UserKind, "alice"))
	root := admintest.Kubeconfig(t, r.Config, r.Namespace)

	got := execute(
		t, r, root, "doctor", "--operator-namespace="+r.Work, "-n", r.Namespace, "-o", "json", "--fail-on=critical",
	)
	if got.status != exitFailed || !strings.Contains(got.err.Error(), "the worst finding is critical") {
		t.Errorf("it ends with %d, %v", got.status, got.err)
	}
	var report doctor.Report
	if err := json.Unmarshal([]byte(got.out), &report); err != nil {
		t.Fatal(err)
	}
	for _, want := range []doctor.Finding{
		{
			Check:    "bucket",
			Severity: doctor.Critical,
			Object:   r.Namespace + "/support",
			Message:  "the bucket does not exist",
		},
		{
			Check:    "admin API",
			Severity: doctor.Warning,
			Message:  "the operator has version v1.2.3 and this program v1.2.4",
		},
		{Check: "deployments", Severity: doctor.Critical, Object: "caly-operator", Message: "0 of 1 pods are ready"},
		{Check: "Secrets", Severity: doctor.Critical, Object: "db-dataplane", Message: "the Secret does not exist"},
		{Check: "Secrets", Severity: doctor.Critical, Object: "db-operator", Message: "lacks the key url"},
		{
			Check:    "client addresses",
			Severity: doctor.Warning,
			Object:   "Ingress caly-dataplane",
			Message:  "trustedProxies is empty",
		},
		{Check: "CRDs", Severity: doctor.OK, Message: "the CRDs exist"},
		{Check: "images", Severity: doctor.OK, Message: "caly:v1.2.3"},
		{Check: "upload Jobs", Severity: doctor.OK, Message: "0 upload Jobs"},
	} {
		if !has(report.Findings, want) {
			t.Errorf("no finding is %+v in:\n%s", want, got.out)
		}
	}
	if strings.Contains(got.out+got.errs, "topsecret") {
		t.Errorf("it prints a secret: %s", got.out)
	}

	// A person with the rights of a Tenant's namespace alone learns what is not checked.
	alice := admintest.Kubeconfig(t, r.User(t, "alice"), r.Namespace)
	got = execute(t, r, alice, "doctor", "--operator-namespace="+r.Work)
	for _, want := range []string{
		`cannot create resource "doctor" in API group "voice.caly.dev" at the cluster scope`,
		"skipped   workloads: Secrets",
	} {
		if got.status != 0 || !strings.Contains(got.out, want) {
			t.Errorf("alice gets %d, %v, want %q:\n%s", got.status, got.err, want, got.out)
		}
	}
}

// has reports whether one finding has the check, the severity, the object and the text.
func has(list []doctor.Finding, want doctor.Finding) bool {
	for _, f := range list {
		if f.Check == want.Check && f.Severity == want.Severity && f.Object == want.Object &&
			strings.Contains(f.Message, want.Message) && (f.Severity.Atleast(doctor.Warning) == (f.Fix != "")) {
			return true
		}
	}
	return false
}

func TestDoctorWithoutOperator(t *testing.T) {
	r := controllertest.NewCluster(t)
	config := admintest.Kubeconfig(t, r.Config, r.Namespace)
	s := &Session{kubeconfig: config, operatorNamespace: r.Work, timeout: time.Minute}
	findings, err := diagnose(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []doctor.Finding{
		{Check: "admin API", Severity: doctor.Critical, Message: "has no pod of Caly's operator"},
		{Check: "deployments", Severity: doctor.Critical, Object: "operator", Message: "has no Deployment"},
	} {
		if !has(findings, want) {
			t.Errorf("no finding is %+v in:\n%+v", want, findings)
		}
	}
}

func TestPodFindings(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		state corev1.ContainerStatus
		age   time.Duration
		want  string
	}{
		"it starts": {
			state: corev1.ContainerStatus{State: waiting("ContainerCreating")},
			age:   time.Second,
		},
		"it never starts": {
			state: corev1.ContainerStatus{State: waiting("ContainerCreating")},
			age:   time.Hour,
			want:  "create the Secret",
		},
		"a Secret is missing": {
			state: corev1.ContainerStatus{State: waiting("CreateContainerConfigError")},
			age:   time.Second,
			want:  "create the Secret",
		},
		"no image": {state: corev1.ContainerStatus{State: waiting("ImagePullBackOff")}, want: "image.repository"},
		"out of memory": {
			state: corev1.ContainerStatus{
				RestartCount:         2,
				LastTerminationState: ended("OOMKilled", now.Add(-time.Minute)),
			},
			want: "memory limit",
		},
		"long ago": {
			state: corev1.ContainerStatus{RestartCount: 2, LastTerminationState: ended("Error", now.Add(-2*time.Hour))},
		},
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "pod", CreationTimestamp: metav1.NewTime(now.Add(-tc.age))},
			Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{tc.state}},
		}
		got := podFindings(pod, now)
		if (len(got) == 0) != (tc.want == "") || len(got) > 0 && !strings.Contains(got[0].Fix, tc.want) {
			t.Errorf("%s: %+v, want the fix %q", name, got, tc.want)
		}
	}
}

func waiting(reason string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
}

func ended(reason string, at time.Time) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason:     reason,
		FinishedAt: metav1.NewTime(at),
	}}
}

func TestAskPublic(t *testing.T) {
	const invalid = `{"code":"invalid_signature","requestId":"r1"}`
	answer := func(status int, contentType, body string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(server.Close)
		return server.URL + "/webhooks/exotel/acme/support/status"
	}
	for name, tc := range map[string]struct {
		address string
		want    doctor.Severity
	}{
		"refused":        {answer(http.StatusUnauthorized, "application/problem+json", invalid), doctor.OK},
		"suspended":      {answer(http.StatusForbidden, "application/problem+json", invalid), doctor.OK},
		"a login":        {answer(http.StatusUnauthorized, "text/html", "<h1>401</h1>"), doctor.Critical},
		"a firewall":     {answer(http.StatusForbidden, "application/json", `{"code":"waf"}`), doctor.Critical},
		"accepted":       {answer(http.StatusOK, "", ""), doctor.Critical},
		"another server": {answer(http.StatusNotFound, "text/plain", "404"), doctor.Critical},
		"nobody":         {"http://127.0.0.1:1/webhooks", doctor.Warning},
		"in the cluster": {"http://caly-dataplane.caly-system.svc:80/webhooks", doctor.Critical},
	} {
		if got := askPublic(t.Context(), tc.address); doctor.Worst(got) != tc.want {
			t.Errorf("%s: %+v, want %s", name, got, tc.want)
		}
	}
}

// TestAutoscaler reads autoscalers that the chart did not make, and that no controller has looked at.
func TestAutoscaler(t *testing.T) {
	r := admintest.New(t, withDoctor)
	installation(t, r, r.Work)
	for name, target := range map[string]string{"keda-hpa-caly": "caly-dataplane", "other": "another-program"} {
		r.Create(t, &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.Work, Name: name},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{
					APIVersion: "apps/v1",
					Kind:       "Deployment",
					Name:       target,
				},
				MaxReplicas: 3,
			},
		})
	}
	local := &localChecks{cluster: &cluster{Client: r.Client, namespace: r.Work}}
	got := local.autoscaler(t.Context())
	if len(got) != 1 || got[0].Severity != doctor.Warning || got[0].Object != "keda-hpa-caly" {
		t.Errorf("%+v, want one warning of keda-hpa-caly", got)
	}
	dataplane := &appsv1.Deployment{}
	if !r.Find(t, r.Work, "caly-dataplane", dataplane) {
		t.Fatal("no Deployment")
	}
	dataplane.Spec.Replicas = ptr.To[int32](0)
	if err := r.Client.Update(t.Context(), dataplane); err != nil {
		t.Fatal(err)
	}
	for _, f := range local.deploymentsReady(t.Context()) {
		if f.Severity != doctor.Critical {
			t.Errorf("%+v, want critical: none of the pods is wanted", f)
		}
	}
}

func TestStatus(t *testing.T) {
	r := admintest.New(t)
	installation(t, r, r.Work)
	support := r.NewTenant(t, r.Namespace, "support")
	tenant := tenanttest.New(r.Namespace, "support")
	if !r.Find(t, r.Namespace, "support", tenant) {
		t.Fatal("no Tenant")
	}
	controllertest.PatchStatus(t, r.Rig, tenant, func(o *v1alpha1.Tenant) {
		o.Status.WebhookURLs = []v1alpha1.WebhookURL{{
			Event: "status",
			URL:   "https://127.0.0.1:1/webhooks/exotel/a/b/status",
		}}
		o.Status.Conditions = []metav1.Condition{{
			Type:               v1alpha1.ConditionReady,
			Status:             metav1.ConditionFalse,
			Reason:             "SecretMissing",
			Message:            "Secret webhook does not exist",
			LastTransitionTime: metav1.Now(),
		}}
	})
	r.Enqueue(t, support, "c1", "https://recordings.exotel.com/c1.mp3")
	root := admintest.Kubeconfig(t, r.Config, r.Namespace)
	got := execute(t, r, root, "status", "support", "--operator-namespace="+r.Work)
	if got.err != nil {
		t.Fatal(got.err)
	}
	for _, want := range []string{
		"Client:   v1.2.4", "Operator: v1.2.3", "dataplane", "0/1", "caly:v1.2.3", "127.0.0.1:1", "connection refused",
		support, "SecretMissing", "Secret webhook does not exist",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("it lacks %q:\n%s", want, got.out)
		}
	}
	got = execute(t, r, root, "status", "-o", "json", "--skip-certificates", "--operator-namespace="+r.Work)
	var read status
	if err := json.Unmarshal([]byte(got.out), &read); err != nil {
		t.Fatalf("%v: %s", err, got.out)
	}
	if len(read.Tenants) != 1 || read.Tenants[0].Activity == nil || read.Tenants[0].Activity.Waiting != 1 ||
		len(read.Missing) != 0 {
		t.Errorf("it reports %+v", read)
	}
	if got := execute(t, r, root, "status", "nobody", "--operator-namespace="+r.Work); got.status != exitFailed {
		t.Errorf("an unknown Tenant: %+v", got)
	}
}
