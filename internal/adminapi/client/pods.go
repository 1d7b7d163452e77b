package client

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/caly-dev/caly/internal/adminapi"
)

// maxPods bounds the pods of an operator that are looked at.
const maxPods = 100

// Pods opens connections to a ready pod of the operator by port-forwards of the API server.
type Pods struct {
	config    *rest.Config
	namespace string
	core      corev1client.CoreV1Interface

	mu      sync.Mutex
	tunnel  httpstream.Connection
	port    int32
	request int
}

// NewPods returns a dialer of the operator in a namespace.
func NewPods(config *rest.Config, namespace string) (*Pods, error) {
	core, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("use the kubeconfig: %w", err)
	}
	return &Pods{config: config, namespace: namespace, core: core}, nil
}

// Close ends the port-forward.
func (p *Pods) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tunnel != nil {
		_ = p.tunnel.Close()
		p.tunnel = nil
	}
}

// DialContext opens a stream of a port-forward. All streams share one connection to the API server, which is opened again
// once it has ended.
func (p *Pods) DialContext(ctx context.Context) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tunnel != nil {
		select {
		case <-p.tunnel.CloseChan():
			p.tunnel = nil
		default:
		}
	}
	if p.tunnel == nil {
		if err := p.open(ctx); err != nil {
			return nil, err
		}
	}
	p.request++
	return openStream(p.tunnel, p.port, p.request)
}

// open chooses a pod and opens a connection for port-forwards to it.
func (p *Pods) open(ctx context.Context) error {
	pod, port, err := p.find(ctx)
	if err != nil {
		return err
	}
	target := p.core.RESTClient().Post().Resource(
		"pods",
	).Namespace(p.namespace).Name(pod).SubResource("portforward").URL()
	dialer, err := p.dialer(target)
	if err != nil {
		return err
	}
	type dialed struct {
		tunnel httpstream.Connection
		err    error
	}
	done := make(chan dialed, 1)
	go func() { // the dialer takes no context
		tunnel, protocol, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
		if err == nil && protocol != portforward.PortForwardProtocolV1Name {
			_ = tunnel.Close()
			err = fmt.Errorf("the API server speaks another protocol of port-forwards, %q", protocol)
		}
		done <- dialed{tunnel, err}
	}()
	select {
	case result := <-done:
		if result.err != nil {
			return fmt.Errorf(
				"forward a port of the pod %s/%s (this needs the verb create on pods/portforward there): %w",
				p.namespace,
				pod,
				result.err,
			)
		}
		p.tunnel = result.tunnel
		p.port = port
		return nil
	case <-ctx.Done():
		go func() {
			if result := <-done; result.err == nil {
				_ = result.tunnel.Close()
			}
		}()
		return ctx.Err()
	}
}

// dialer returns what kubectl uses: a WebSocket, or SPDY where the API server or a proxy knows no WebSockets.
func (p *Pods) dialer(target *url.URL) (httpstream.Dialer, error) {
	roundTripper, upgrader, err := spdy.RoundTripperFor(p.config)
	if err != nil {
		return nil, err
	}
	old := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: roundTripper}, http.MethodPost, target)
	tunneling, err := portforward.NewSPDYOverWebsocketDialerForStreaming(target, p.config)
	if err != nil {
		return nil, err
	}
	return portforward.NewFallbackDialerForStreaming(tunneling, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}

// find returns a ready pod of the operator, and the port of its admin API.
func (p *Pods) find(ctx context.Context) (pod string, port int32, err error) {
	list, err := p.core.Pods(p.namespace).List(ctx, metav1.ListOptions{
		LabelSelector: adminapi.PodSelector,
		Limit:         maxPods,
	})
	if apierrors.IsForbidden(err) {
		return "", 0, fmt.Errorf(
			"find the operator: the verb list on pods and create on pods/portforward are needed in "+
				"the namespace %s: %w",
			p.namespace, err,
		)
	}
	if err != nil {
		return "", 0, fmt.Errorf("find the operator in the namespace %s: %w", p.namespace, err)
	}
	if len(list.Items) == 0 {
		return "", 0, fmt.Errorf("the namespace %s has no pod of Caly's operator; name the namespace of the "+
			"installation with --operator-namespace", p.namespace)
	}
	ready := 0
	for i := range list.Items {
		if !isReady(&list.Items[i]) {
			continue
		}
		ready++
		if port := adminPort(&list.Items[i]); port > 0 {
			return list.Items[i].Name, port, nil
		}
	}
	if ready == 0 {
		return "", 0, fmt.Errorf("none of the %d pods of the operator in the namespace %s is ready; see "+
			"\"kubectl -n %s get pods\"", len(list.Items), p.namespace, p.namespace)
	}
	return "", 0, fmt.Errorf("the operator in the namespace %s serves no admin API; set the chart's value "+
		"operator.adminAPI.enabled, or upgrade an installation without that value", p.namespace)
}

func isReady(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// adminPort returns the port of the admin API; 0 if the pod has none.
func adminPort(pod *corev1.Pod) int32 {
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == adminapi.PortName {
				return port.ContainerPort
			}
		}
	}
	return 0
}

// streamHeaders are those of one of the two streams of a forwarded connection.
func streamHeaders(kind string, port int32, request int) http.Header {
	header := http.Header{}
	header.Set(corev1.StreamType, kind)
	header.Set(corev1.PortHeader, strconv.Itoa(int(port)))
	header.Set(corev1.PortForwardRequestIDHeader, strconv.Itoa(request))
	return header
}
