package kubectl

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/testkit/admintest"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

// Canaries that TestReport puts into the cluster.
const (
	canarySecret = "CaNaRy0secret1word2ABCdef"
	canaryPhone  = "+919876543210"
	canaryMail   = "canary.person@example.com"
)

// kubelet is a node whose kubelet has one log of every container. The kube-apiserver asks it as it asks any other.
func kubelet(t *testing.T, r *admintest.Rig, log string) (node string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !strings.HasPrefix(req.URL.Path, "/containerLogs/") || req.URL.Query().Get("limitBytes") == "" {
			t.Errorf("the kubelet is asked for %s", req.URL)
			http.NotFound(w, req)
			return
		}
		_, _ = io.WriteString(w, log)
	}))
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	made := &corev1.Node{ObjectMeta: metav1.ObjectMeta{GenerateName: "node-"}}
	r.Create(t, made)
	made.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: host}}
	made.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(number) //nolint:gosec // a port
	if err := r.Client.Status().Update(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	return made.Name
}

// canaries puts secrets and personal data wherever the objects of an installation can hold them.
func canaries(t *testing.T, r *admintest.Rig) {
	t.Helper()
	installation(t, r, r.Work)
	for _, namespace := range []string{r.Work, r.Uploads, r.Namespace} {
		r.Create(t, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "canary"},
			StringData: map[string]string{"key": canarySecret, "phone": canaryPhone},
		})
	}
	tenant := tenanttest.New(r.Namespace, "support", func(o *v1alpha1.Tenant) {
		o.Annotations = map[string]string{"example.com/note": "call " + canaryPhone + " with " + canarySecret}
		o.Spec.Exotel.PhoneNumbers = []string{canaryPhone}
		o.Spec.Exotel.APIBaseURL = "https://api.example.com"
		o.Spec.Audio = &v1alpha1.AudioSpec{
			AgentURL: "wss://bot.example.com/stream/" + canarySecret + "?key=" + canarySecret,
		}
	})
	r.Create(t, tenant)
	controllertest.PatchStatus(t, r.Rig, tenant, func(o *v1alpha1.Tenant) {
		o.Status.Conditions = []metav1.Condition{{
			Type:               v1alpha1.ConditionReady,
			Status:             metav1.ConditionFalse,
			Reason:             "StorageUnreachable",
			Message:            "https://s3.example.com/b?X-Amz-Signature=" + canarySecret + " for " + canaryPhone,
			LastTransitionTime: metav1.Now(),
		}}
	})
	r.Create(t, &v1alpha1.CallRecording{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: "recording"},
		Spec: v1alpha1.CallRecordingSpec{
			TenantRef: v1alpha1.TenantReference{Name: "support"},
			CallSID:   "call1",
			SourceURL: "https://recordings.exotel.com/" + canarySecret + ".mp3?signature=" + canarySecret,
		},
	})
	r.Create(t, &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: r.Work, Name: "event"},
		EventTime:           metav1.NowMicro(),
		ReportingController: "kubelet",
		ReportingInstance:   "node",
		Action:              "Pull",
		Reason:              "Failed",
		Type:                "Warning",
		Regarding:           corev1.ObjectReference{Kind: "Pod", Namespace: r.Work, Name: "pod"},
		Note:                "password=" + canarySecret + " of " + canaryMail + " and " + canaryPhone,
	})
}

// pod makes a pod of the operator on a node.
func pod(t *testing.T, r *admintest.Rig, node string) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: r.Work, Name: "default"}}
	if !r.Find(t, r.Work, "default", account) {
		r.Create(t, account)
	}
	r.Create(t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.Work,
			Name:      "caly-operator-0",
			Labels:    map[string]string{"app.kubernetes.io/part-of": "caly", componentLabel: componentOperator},
		},
		Spec: corev1.PodSpec{
			NodeName: node,
			Containers: []corev1.Container{{
				Name:  "operator",
				Image: "caly:v1.2.3",
				Args:  []string{"operator", "--egress-proxy=http://user:" + canarySecret + "@proxy:3128"},
				Env:   []corev1.EnvVar{{Name: "HTTPS_PROXY", Value: canarySecret}},
			}},
		},
	})
}

// TestReport writes a bundle of a cluster with canaries, and looks for each in every file.
func TestReport(t *testing.T) {
	r := admintest.New(t, withDoctor)
	canaries(t, r)
	pod(
		t,
		r,
		kubelet(
			t,
			r,
			`{"msg":"webhook","url":"/webhooks/exotel/a/b/status/`+canarySecret+`?From=%2B919876543210","From":"`+canaryPhone+`"}
{"msg":"login","email":"`+canaryMail+`","password":"`+canarySecret+`","header":{"Authorization":["Bearer `+canarySecret+`"]}}
kept line of the log
`,
		),
	)
	root := admintest.Kubeconfig(t, r.Config, r.Namespace)
	file := filepath.Join(t.TempDir(), "report.tar.gz")
	got := execute(t, r, root, "report", "--operator-namespace="+r.Work, "-n", r.Namespace, "-f", file)
	if got.err != nil {
		t.Fatal(got.err)
	}
	files := unpack(t, file)
	for _, want := range []string{
		"status.json", "doctor.json", "tenants.yaml", "callrecordings.yaml", "deployments.yaml", "pods.yaml", "events.yaml",
		"ingresses.yaml", "pods/" + r.Work + "/caly-operator-0/operator.log", "missing.txt",
	} {
		if files["caly-report/"+want] == "" {
			t.Errorf("the report lacks %s; it has %d files, and says %s%s", want, len(files), got.out, got.errs)
		}
	}
	for name, text := range files {
		for _, secret := range []string{canarySecret, canaryPhone, canaryPhone[1:], canaryMail, "topsecret", "CaNaRy"} {
			if strings.Contains(text, secret) || strings.Contains(got.out+got.errs, secret) {
				t.Errorf("%s has the canary %q:\n%s", name, secret, text)
			}
		}
	}
	for name, want := range map[string]string{
		"tenants.yaml": "agentURL: wss://bot.example.com/[redacted]",
		"pods.yaml":    "image: caly:v1.2.3",
		"doctor.json":  "the bucket does not exist",
		"pods/" + r.Work + "/caly-operator-0/operator.log": "kept line of the log",
	} {
		if !strings.Contains(files["caly-report/"+name], want) {
			t.Errorf("%s lacks %q:\n%s", name, want, files["caly-report/"+name])
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
	if got := execute(t, r, root, "report", "--operator-namespace="+r.Work, "-f", file); !errors.Is(
		got.err, os.ErrExist,
	) {
		t.Errorf("a file that exists: %v", got.err)
	}
}

// unpack returns the files of a bundle.
func unpack(t *testing.T, name string) map[string]string {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	compressed, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for reader := tar.NewReader(compressed); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(text)
	}
}

// TestReportWithoutRights verifies that a person without rights gets a bundle that says what is missing.
func TestReportWithoutRights(t *testing.T) {
	r := admintest.New(t)
	config := admintest.Kubeconfig(t, r.User(t, "nobody"), r.Namespace)
	file := filepath.Join(t.TempDir(), "report.tar.gz")
	begin := time.Now()
	got := execute(t, r, config, "report", "--operator-namespace="+r.Work, "-f", file)
	if got.err != nil || time.Since(begin) > time.Minute {
		t.Fatalf("%v after %s", got.err, time.Since(begin))
	}
	missing := unpack(t, file)["caly-report/missing.txt"]
	for _, want := range []string{"Deployments: ", "tenants: ", "pods: "} {
		if !strings.Contains(missing, want) {
			t.Errorf("missing.txt lacks %q:\n%s", want, missing)
		}
	}
}
