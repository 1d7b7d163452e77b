//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestAutoscaling verifies that the chart's autoscaler adds a pod while there are more live calls than its target. It
// removes the pod after the calls have ended. No call is interrupted.
func TestAutoscaling(t *testing.T) {
	line := newLine(t, 1000)
	serveMetrics(t)
	scaler := line.autoscaler(t)
	most := int(scaler.Spec.MaxReplicas)
	least := int(*scaler.Spec.MinReplicas)
	each := int(scaler.Spec.Metrics[0].Pods.Target.AverageValue.Value())
	line.waitReplicas(t, scaler, least)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	calls := line.place(ctx, each*least+each, line.call(10*time.Minute))
	line.waitLive(t, each*least+each)
	line.waitReplicas(t, scaler, most)
	hangUp()
	calls.group.Wait()
	line.waitLive(t, 0)
	for i, r := range calls.reports {
		if err := calls.errs[i]; err != nil || r.Code != websocket.CloseNormalClosure ||
			r.Echo.Wrong+r.Echo.Lost+r.Echo.Extra > 0 {
			t.Errorf("call %d: %v, ended with %d, echo %+v", i, err, r.Code, r.Echo)
		}
	}
	line.waitReplicas(t, scaler, least)
}

// autoscaler applies the chart's, as run.sh has rendered it but with less patience before a pod goes, until the test ends.
func (x *line) autoscaler(t *testing.T) *autoscalingv2.HorizontalPodAutoscaler {
	t.Helper()
	file, err := os.Open(setting(t, "CALY_E2E_AUTOSCALER"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var scaler autoscalingv2.HorizontalPodAutoscaler
	if err := yaml.NewYAMLOrJSONDecoder(file, 4096).Decode(&scaler); err != nil {
		t.Fatal(err)
	}
	least := *scaler.Spec.MinReplicas
	down := scaler.Spec.Behavior.ScaleDown // ten minutes, in the chart
	*down.StabilizationWindowSeconds, down.Policies[0].PeriodSeconds = 10, 10
	x.create(t, &scaler)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = x.client.Delete(ctx, &scaler)
		deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{
			Namespace: releaseNamespace,
			Name:      scaler.Spec.ScaleTargetRef.Name,
		}}
		_ = x.client.Patch(
			ctx,
			deployment,
			client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, least)),
		)
	})
	return &scaler
}

// waitReplicas waits until the autoscaler has want pods at work.
func (x *line) waitReplicas(t *testing.T, scaler *autoscalingv2.HorizontalPodAutoscaler, want int) {
	t.Helper()
	what := fmt.Sprintf("%d pods are wanted, and work", want)
	eventually.Within(4*time.Minute).Reaches(t, what, func(ctx context.Context) (bool, string) {
		var d appsv1.Deployment
		if err := x.client.Get(ctx, client.ObjectKey{
			Namespace: releaseNamespace,
			Name:      scaler.Spec.ScaleTargetRef.Name,
		}, &d); err != nil {
			return false, err.Error()
		}
		if err := x.client.Get(ctx, client.ObjectKeyFromObject(scaler), scaler); err != nil {
			return false, err.Error()
		}
		active := false
		for _, c := range scaler.Status.Conditions {
			active = active || c.Type == autoscalingv2.ScalingActive && c.Status == corev1.ConditionTrue
		}
		return active && int(scaler.Status.DesiredReplicas) == want && int(d.Status.AvailableReplicas) == want &&
				int(d.Status.Replicas) == want,
			fmt.Sprintf(
				"%d wanted, %d available of %d; %+v",
				scaler.Status.DesiredReplicas,
				d.Status.AvailableReplicas,
				d.Status.Replicas,
				scaler.Status.Conditions,
			)
	})
}

const metricsGroup = "custom.metrics.k8s.io"

// serveMetrics answers for the custom metrics API, as prometheus-adapter would: it reads each pod's own when it is asked.
func serveMetrics(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(shared.hostIP, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{
		Listener: listener,
		Config:   &http.Server{Handler: metricsAPI(), ReadHeaderTimeout: 10 * time.Second},
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	number, _ := strconv.ParseInt(port, 10, 32)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: releaseNamespace, Name: "e2e-metrics"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: shared.hostIP},
	}
	api := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1",
		"kind":       "APIService",
		"metadata":   map[string]any{"name": "v1beta2." + metricsGroup},
		"spec": map[string]any{
			"group":                 metricsGroup,
			"version":               "v1beta2",
			"groupPriorityMinimum":  int64(100),
			"versionPriority":       int64(100),
			"insecureSkipTLSVerify": true,
			"service": map[string]any{
				"namespace": service.Namespace,
				"name":      service.Name,
				"port":      number,
			},
		},
	}}
	for _, o := range []client.Object{service, api} {
		if err := shared.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = shared.client.Delete(context.Background(), o) })
	}
	minute.Reaches(t, "the API of custom metrics is available", func(ctx context.Context) (bool, string) {
		_, err := shared.kube.Discovery().RESTClient().Get().AbsPath("/apis/" + metricsGroup + "/v1beta2").DoRaw(ctx)
		return err == nil, fmt.Sprint(err)
	})
}

func metricsAPI() http.Handler {
	answer := func(w http.ResponseWriter, o any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(o)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /apis/"+metricsGroup+"/v1beta2", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, metav1.APIResourceList{
			TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
			GroupVersion: metricsGroup + "/v1beta2",
			APIResources: []metav1.APIResource{{
				Name:       "pods/caly_stream_sessions_live",
				Namespaced: true,
				Kind:       "MetricValueList",
				Verbs:      metav1.Verbs{"get"},
			}},
		})
	})
	mux.HandleFunc(
		"GET /apis/"+metricsGroup+"/v1beta2/namespaces/{namespace}/pods/{pod}/{metric}",
		func(w http.ResponseWriter, r *http.Request) {
			selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
			if err != nil || r.PathValue("pod") != "*" {
				http.Error(w, "pods are chosen by their labels", http.StatusBadRequest)
				return
			}
			list := map[string]any{
				"kind":       "MetricValueList",
				"apiVersion": metricsGroup + "/v1beta2",
				"metadata":   map[string]any{},
			}
			if list["items"], err = metricOfPods(
				r.Context(), r.PathValue("namespace"), selector, r.PathValue("metric"),
			); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			answer(w, list)
		},
	)
	return mux
}

// metricOfPods reads a gauge without labels from each pod. One that does not answer has none.
func metricOfPods(ctx context.Context, namespace string, selector labels.Selector, name string) ([]any, error) {
	var pods corev1.PodList
	if err := shared.client.List(
		ctx, &pods, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: selector},
	); err != nil {
		return nil, err
	}
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`)
	items := []any{}
	for _, p := range pods.Items {
		text, err := shared.metricsOf(ctx, &p)
		found := line.FindSubmatch(text)
		if err != nil || found == nil {
			continue
		}
		items = append(items, map[string]any{
			"describedObject": map[string]string{
				"kind":       "Pod",
				"namespace":  p.Namespace,
				"name":       p.Name,
				"apiVersion": "/v1",
			},
			"metric":    map[string]string{"name": name},
			"timestamp": time.Now().UTC().Format(time.RFC3339),
			"value":     strings.TrimSpace(string(found[1])),
		})
	}
	return items, nil
}
