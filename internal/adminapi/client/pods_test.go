package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/caly-dev/caly/internal/adminapi"
)

// kubelet answers a port-forward as a kubelet does, on the protocol SPDY: it echoes data of the port 8443 in capitals, and
// reports an error for every other port.
func kubelet(t *testing.T) *rest.Config {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.Error(w, "SPDY alone", http.StatusForbidden) // as an API server without WebSockets
			return
		}
		if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
			return
		}
		streams := make(chan httpstream.Stream, 10)
		connection := spdy.NewResponseUpgrader().UpgradeResponse(
			w, r,
			func(s httpstream.Stream, _ <-chan struct{}) error {
				streams <- s
				return nil
			},
		)
		if connection == nil {
			return
		}
		defer func() { _ = connection.Close() }()
		reports := map[string]httpstream.Stream{}
		for {
			select {
			case s := <-streams:
				request := s.Headers().Get(corev1.PortForwardRequestIDHeader)
				if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
					reports[request] = s
					continue
				}
				go forward(s, reports[request])
			case <-connection.CloseChan():
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL}
}

func forward(data, report httpstream.Stream) {
	defer func() { _ = report.Close(); _ = data.Close() }()
	if port := data.Headers().Get(corev1.PortHeader); port != "8443" {
		_, _ = io.WriteString(report, "connection refused on port "+port+"\x1b[31m")
		return
	}
	line, err := bufio.NewReader(data).ReadString('\n')
	if err == nil {
		_, _ = io.WriteString(data, strings.ToUpper(line))
	}
}

func pod(name string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "caly-system",
			Name:      name,
			Labels: map[string]string{
				"app.kubernetes.io/part-of":   "caly",
				"app.kubernetes.io/component": "operator",
			},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
			{Name: "metrics", ContainerPort: 8080},
			{Name: adminapi.PortName, ContainerPort: adminapi.DefaultPort},
		}}}},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type:   corev1.PodReady,
			Status: corev1.ConditionTrue,
		}}},
	}
	change(p)
	return p
}

func asIs(*corev1.Pod)       {}
func notReady(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func ending(p *corev1.Pod)   { p.DeletionTimestamp = &metav1.Time{Time: time.Now()} }
func old(p *corev1.Pod)      { p.Spec.Containers[0].Ports = p.Spec.Containers[0].Ports[:1] }
func dataplane(p *corev1.Pod) {
	p.Labels["app.kubernetes.io/component"] = "dataplane"
}
func elsewhere(p *corev1.Pod) { p.Namespace = "acme" }

// oneOperator lists one pod. All else goes to the API server.
type oneOperator struct {
	corev1client.CoreV1Interface
	pod *corev1.Pod
}

func (o *oneOperator) Pods(namespace string) corev1client.PodInterface {
	return fake.NewClientset(o.pod).CoreV1().Pods(namespace)
}

func TestFind(t *testing.T) {
	for name, tc := range map[string]struct {
		pods    []*corev1.Pod
		want    string
		wantErr string
	}{
		"one": {pods: []*corev1.Pod{pod("a", asIs)}, want: "a 8443"},
		"the ready one": {
			pods: []*corev1.Pod{pod("a", notReady), pod("b", ending), pod("c", asIs)},
			want: "c 8443",
		},
		"the one of the new version": {pods: []*corev1.Pod{pod("a", old), pod("b", asIs)}, want: "b 8443"},
		"none":                       {wantErr: "--operator-namespace"},
		"of another namespace":       {pods: []*corev1.Pod{pod("a", elsewhere)}, wantErr: "--operator-namespace"},
		"of the data plane":          {pods: []*corev1.Pod{pod("a", dataplane)}, wantErr: "--operator-namespace"},
		"not ready":                  {pods: []*corev1.Pod{pod("a", notReady)}, wantErr: "none of the 1 pods"},
		"without an admin API":       {pods: []*corev1.Pod{pod("a", old)}, wantErr: "operator.adminAPI.enabled"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := fake.NewClientset()
			for _, p := range tc.pods {
				if err := cluster.Tracker().Add(p); err != nil {
					t.Fatal(err)
				}
			}
			found, port, err := (&Pods{namespace: "caly-system", core: cluster.CoreV1()}).find(t.Context())
			if got := fmt.Sprint(found, " ", port); tc.want != "" && (got != tc.want || err != nil) {
				t.Errorf("%s, %v; want %s", got, err, tc.want)
			}
			if tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Errorf("%v, want %q", err, tc.wantErr)
			}
		})
	}
}

// TestTunnel forwards connections as kubectl does, several in one tunnel, and reads what the kubelet reports.
func TestTunnel(t *testing.T) {
	for name, tc := range map[string]struct {
		port    int32
		wantErr string
	}{
		"a port that answers": {port: adminapi.DefaultPort},
		"a port without peer": {port: 9443, wantErr: "the port-forward failed: connection refused on port 9443"},
	} {
		t.Run(name, func(t *testing.T) {
			pods, err := NewPods(kubelet(t), "caly-system")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pods.Close)
			pods.core = &oneOperator{
				pods.core,
				pod("a", func(p *corev1.Pod) { p.Spec.Containers[0].Ports[1].ContainerPort = tc.port }),
			}
			for range 3 {
				connection, err := pods.DialContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(connection, "hello\n")
				got, err := io.ReadAll(connection)
				if tc.wantErr == "" && (string(got) != "HELLO\n" || err != nil) {
					t.Errorf("%q, %v", got, err)
				}
				if tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr) ||
					strings.Contains(err.Error(), "\x1b")) {
					t.Errorf("%v, want %q", err, tc.wantErr)
				}
				_ = connection.Close()
			}
		})
	}
}

// TestTunnelToNowhere ends with the context while the API server does not answer.
func TestTunnelToNowhere(t *testing.T) {
	held := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-held }))
	t.Cleanup(func() { close(held); server.Close() })
	pods, err := NewPods(&rest.Config{Host: server.URL}, "caly-system")
	if err != nil {
		t.Fatal(err)
	}
	pods.core = &oneOperator{pods.core, pod("a", asIs)}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := pods.DialContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
