//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

const (
	probeImage          = "localhost/caly-pause:1" // listens and dials; of test/cluster
	monitoringNamespace = "monitoring"             // the chart's default
	// metadataAddress is where clouds serve credentials of their machines.
	metadataAddress = "169.254.169.254:80"
)

// TestNetworkPolicies tries connections from pods in the place of each component, and from others in the cluster.
// Every probe pod listens on port 8080. Most addresses that are closed to one pod are open to another in the same test,
// so that a server that does not answer cannot pass for a policy.
func TestNetworkPolicies(t *testing.T) {
	neighbour := probeNamespace(t, "e2e-"+randomHex(4))
	monitoring := probeNamespace(t, monitoringNamespace)
	labels := func(component string) map[string]string {
		return map[string]string{
			"app.kubernetes.io/name":     "caly",
			"app.kubernetes.io/instance": "caly",
			v1alpha1.LabelComponent:      component,
		}
	}
	uploadLabels := map[string]string{v1alpha1.LabelComponent: "upload", "app.kubernetes.io/managed-by": "caly"}
	store := startProbe(t, neighbour, map[string]string{"app": "store"}) // another tenant's, in the cluster
	upload := startProbe(t, uploadNamespace, uploadLabels)
	unknown := startProbe(t, uploadNamespace, map[string]string{"app": "unknown"})
	operator := startProbe(t, releaseNamespace, labels("operator"))
	dataplane := startProbe(t, releaseNamespace, labels("dataplane"))
	scraper := startProbe(t, monitoring, nil)
	neighbourPod := startProbe(t, neighbour, nil)
	database := databaseAddress(t)
	objectStore := strings.TrimPrefix(shared.s3URL, "http://")
	addresses := map[string]string{
		"data plane 8080":    address(releasePod(t, "dataplane", dataplane), 8080),
		"data plane 8081":    address(releasePod(t, "dataplane", dataplane), 8081),
		"data plane Service": address(serviceIP(t, releaseNamespace, "caly-dataplane"), 80),
		"operator 8080":      address(releasePod(t, "operator", operator), 8080),
		"operator 8081":      address(releasePod(t, "operator", operator), 8081),
		"API server":         address(serviceIP(t, metav1.NamespaceDefault, "kubernetes"), 443),
		"another's store":    address(store.Status.PodIP, 8080),
		"upload pod":         address(upload.Status.PodIP, 8080),
		"unknown pod":        address(unknown.Status.PodIP, 8080),
		"neighbour":          address(neighbourPod.Status.PodIP, 8080),
		"database":           database,
		"store":              objectStore,
		"metadata address":   metadataAddress,
		"itself":             "127.0.0.1:8080",
	}
	for name, tt := range map[string]struct {
		from corev1.Pod
		open []string // all others are closed
	}{
		"an upload pod":                     {upload, []string{"upload pod", "database", "store"}},
		"another pod of the work namespace": {unknown, []string{"unknown pod"}},
		"the operator":                      {operator, []string{"API server", "database", "store"}},
		"the data plane":                    {dataplane, []string{"API server", "database", "store"}},
		"monitoring": {scraper, []string{
			"data plane 8080", "data plane 8081", "data plane Service", "operator 8080",
			"API server", "database", "store", "another's store", "neighbour",
		}},
		"a neighbour": {neighbourPod, []string{
			"data plane 8080", "data plane Service",
			"API server", "database", "store", "another's store", "neighbour",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			want := map[string]string{}
			for name := range addresses {
				want[name] = "closed"
			}
			for _, name := range append(tt.open, "itself") {
				want[name] = "open"
			}
			if name == "an upload pod" {
				delete(want, "API server") // it has the address of the recordings' host, which upload pods may reach
			}
			if tt.from.Namespace == monitoring || tt.from.Namespace == neighbour {
				delete(want, "metadata address") // no policy of the chart holds for what these pods send
			}
			expectReach(t, tt.from, addresses, want)
		})
	}
}

// TestChartChecksDatabasePort upgrades to values whose policies would close the port of the database.
func TestChartChecksDatabasePort(t *testing.T) {
	command := exec.CommandContext(t.Context(), "helm", "upgrade", "caly", "../../charts/caly",
		"--namespace", releaseNamespace, "--dry-run=server", "--reuse-values",
		"--set", "networkPolicies.database.ports={5432}")
	output, err := command.CombinedOutput()
	config := shared.db.Config().ConnConfig
	want := fmt.Sprintf("networkPolicies.database.ports lacks %d", config.Port)
	if err == nil || !strings.Contains(string(output), want) {
		t.Errorf("helm: %v, want an error with %q: %s", err, want, output)
	}
	if strings.Contains(string(output), config.Password) {
		t.Error("helm's output contains the password")
	}
}

// expectReach has the pod dial the addresses that are named in want until the result is the wanted one: the node needs
// a moment to learn of a pod and of a policy.
func expectReach(t *testing.T, from corev1.Pod, addresses, want map[string]string) {
	t.Helper()
	names := slices.Sorted(maps.Keys(want))
	args := []string{"-n", from.Namespace, "exec", from.Name, "--", "/pause", "dial"}
	for _, name := range names {
		args = append(args, addresses[name])
	}
	what := from.Namespace + "/" + from.Name + " reaches what it may and nothing else"
	minute.Reaches(t, what, func(ctx context.Context) (bool, string) {
		output, err := exec.CommandContext(ctx, "kubectl", args...).CombinedOutput() //nolint:gosec // names made above
		if err != nil {
			return false, fmt.Sprintf("%v: %s", err, output)
		}
		got := map[string]string{}
		for i, line := range strings.Split(strings.TrimSpace(string(output)), "\n") {
			if words := strings.Fields(line); len(words) == 2 && i < len(names) {
				got[names[i]] = words[1]
			}
		}
		diff := cmp.Diff(want, got)
		return diff == "", "(-want +got):\n" + diff
	})
}

// probeNamespace makes a namespace that is deleted with the test.
func probeNamespace(t *testing.T, name string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	minute.Reaches(t, "the namespace of an earlier run is deleted", func(ctx context.Context) (bool, string) {
		err := shared.client.Create(ctx, namespace)
		return err == nil, fmt.Sprint(err)
	})
	t.Cleanup(func() { _ = shared.client.Delete(context.WithoutCancel(t.Context()), namespace) })
	return name
}

// startProbe runs a pod that listens on port 8080 and waits until it has an address. The pod is never ready, so that no
// Service leads to it whatever its labels are.
func startProbe(t *testing.T, namespace string, labels map[string]string) corev1.Pod {
	t.Helper()
	yes := true
	no := false
	user := int64(65532)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "probe-" + randomHex(4), Labels: labels},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken:  &no,
			TerminationGracePeriodSeconds: new(int64),
			ReadinessGates:                []corev1.PodReadinessGate{{ConditionType: "e2e.voice.caly.dev/never"}},
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot:   &yes,
				RunAsUser:      &user,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name:            "probe",
				Image:           probeImage,
				ImagePullPolicy: corev1.PullNever,
				Args:            []string{"listen", "8080"},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no,
					ReadOnlyRootFilesystem:   &yes,
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
	if err := shared.client.Create(t.Context(), pod); err != nil {
		t.Fatalf("create pod: %v", err)
	}
	t.Cleanup(func() {
		_ = shared.client.Delete(context.WithoutCancel(t.Context()), pod, client.GracePeriodSeconds(0))
	})
	minute.Reaches(t, "the probe runs", func(ctx context.Context) (bool, string) {
		if err := shared.client.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return false, err.Error()
		}
		return pod.Status.Phase == corev1.PodRunning && pod.Status.PodIP != "", fmt.Sprint(pod.Status.Phase)
	})
	return *pod
}

// releasePod returns the address of a ready pod of the component that is not the probe in its place.
func releasePod(t *testing.T, component string, probe corev1.Pod) string {
	t.Helper()
	list, err := pods(
		t.Context(), shared.client, releaseNamespace, map[string]string{v1alpha1.LabelComponent: component},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range list {
		if pod.Name != probe.Name && pod.DeletionTimestamp == nil && pod.Status.PodIP != "" {
			return pod.Status.PodIP
		}
	}
	t.Fatalf("no pod of the %s runs", component)
	return ""
}

// serviceIP returns the Service's address in the cluster.
func serviceIP(t *testing.T, namespace, name string) string {
	t.Helper()
	var service corev1.Service
	if err := shared.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &service); err != nil {
		t.Fatal(err)
	}
	return service.Spec.ClusterIP
}

// databaseAddress returns where PostgreSQL listens.
func databaseAddress(t *testing.T) string {
	t.Helper()
	config := shared.db.Config().ConnConfig
	return address(config.Host, int(config.Port))
}

// address joins a host and a port.
func address(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
