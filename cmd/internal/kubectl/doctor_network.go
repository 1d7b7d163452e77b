package kubectl

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/doctor"
)

const (
	// maxAddresses bounds the public hosts that are asked.
	maxAddresses = 5
	// certificateSoon is how long before its end a certificate is reported.
	certificateSoon = 14 * 24 * time.Hour
	// mostSkew is how far clocks may differ.
	mostSkew = 5 * time.Second
)

// policies reports pods that no NetworkPolicy selects.
func (l *localChecks) policies(ctx context.Context) []doctor.Finding {
	var list networkingv1.NetworkPolicyList
	if err := l.List(ctx, &list, client.InNamespace(l.namespace), client.Limit(maxObjects)); err != nil {
		return unread("NetworkPolicies", err)
	}
	pods, err := l.pods(ctx)
	if err != nil {
		return unread("pods", err)
	}
	open := map[string]bool{}
	for i := range pods {
		if serves(&pods[i]) && !selected(list.Items, &pods[i]) {
			open[pods[i].Labels[componentLabel]] = true
		}
	}
	var found []doctor.Finding
	for name := range open {
		found = append(
			found,
			finding(doctor.Warning, name, "no NetworkPolicy selects its pods: they reach and are reached by everything",
				"set networkPolicies.enabled, or write policies of your own")...)
	}
	if len(found) == 0 {
		return finding(doctor.OK, "", "a NetworkPolicy selects every pod", "")
	}
	return found
}

// selected reports whether a policy for ingress selects the pod.
func selected(policies []networkingv1.NetworkPolicy, pod *corev1.Pod) bool {
	return slices.ContainsFunc(policies, func(p networkingv1.NetworkPolicy) bool {
		return slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) && matches(&p, pod)
	})
}

func matches(p *networkingv1.NetworkPolicy, pod *corev1.Pod) bool {
	for key, value := range p.Spec.PodSelector.MatchLabels {
		if pod.Labels[key] != value {
			return false
		}
	}
	return len(p.Spec.PodSelector.MatchExpressions) == 0
}

// proxies compares the trusted proxies of the data plane with what stands in front of it.
func (l *localChecks) proxies(ctx context.Context) []doctor.Finding {
	deployments, err := l.deployments(ctx)
	if err != nil {
		return unread("Deployments", err)
	}
	dataplane := component(deployments, componentDataplane)
	if dataplane == nil {
		return finding(doctor.Skipped, "", "there is no Deployment of the data plane", "")
	}
	trusted := argument(dataplane, "trusted-proxies")
	front := l.front(ctx)
	if trusted == "" {
		if front == "" {
			return finding(
				doctor.OK, "", "no proxy is trusted, and no Ingress, HTTPRoute or load balancer is in front", "",
			)
		}
		return finding(
			doctor.Warning,
			front,
			"it is in front of the data plane, and dataplane.trustedProxies is empty: "+
				"every client has the address of the proxy, and all share its limits; allowedCIDRs and signed URLs of Tenants fail",
			"name the proxy's addresses in dataplane.trustedProxies",
		)
	}
	pods, err := l.pods(ctx)
	if err != nil {
		return unread("pods", err)
	}
	for text := range strings.SplitSeq(trusted, ",") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			continue
		}
		for i := range pods {
			if ip, err := netip.ParseAddr(pods[i].Status.PodIP); err == nil && !pods[i].Spec.HostNetwork &&
				prefix.Contains(ip) {
				return finding(
					doctor.Warning,
					text,
					"the range has pods of the installation: any pod there can forge the address of a client",
					"name the proxy's addresses only in dataplane.trustedProxies",
				)
			}
		}
	}
	return finding(doctor.OK, "", "the trusted proxies are "+trusted, "")
}

// front names an Ingress, an HTTPRoute or a load balancer of the chart; empty without one.
func (l *localChecks) front(ctx context.Context) string {
	var ingresses networkingv1.IngressList
	if l.List(ctx, &ingresses, client.InNamespace(l.namespace), partOf, client.Limit(1)) == nil &&
		len(ingresses.Items) > 0 {
		return "Ingress " + ingresses.Items[0].Name
	}
	routes := &unstructured.UnstructuredList{}
	routes.SetGroupVersionKind(schema.GroupVersionKind{
		Group:   "gateway.networking.k8s.io",
		Version: "v1",
		Kind:    "HTTPRouteList",
	})
	if l.List(ctx, routes, client.InNamespace(l.namespace), partOf, client.Limit(1)) == nil && len(routes.Items) > 0 {
		return "HTTPRoute " + routes.Items[0].GetName()
	}
	var services corev1.ServiceList
	if l.List(ctx, &services, client.InNamespace(l.namespace), partOf, client.Limit(maxObjects)) == nil {
		for i := range services.Items {
			if services.Items[i].Spec.Type == corev1.ServiceTypeLoadBalancer {
				return "Service " + services.Items[i].Name
			}
		}
	}
	return ""
}

// publicAddress sends a webhook without a signature to each public host, as a stranger would.
func (l *localChecks) publicAddress(ctx context.Context) []doctor.Finding {
	tenants, err := l.tenants(ctx, l.only, "")
	if err != nil {
		return unread("Tenants", err)
	}
	var addresses []string
	for _, tenant := range tenants {
		for _, address := range tenant.urls {
			if u, err := url.Parse(address.URL); err == nil && !slices.ContainsFunc(addresses, func(known string) bool {
				return strings.HasPrefix(known, u.Scheme+"://"+u.Host+"/")
			}) {
				addresses = append(addresses, address.URL)
			}
		}
	}
	if len(addresses) == 0 {
		return finding(doctor.Skipped, "", "no Tenant has a webhook URL yet", "")
	}
	addresses = addresses[:min(len(addresses), maxAddresses)]
	found := make([][]doctor.Finding, len(addresses))
	var group sync.WaitGroup
	for i, address := range addresses { // at once: a host that does not answer must not take the time of the others
		group.Go(func() { found[i] = askPublic(ctx, address) })
	}
	group.Wait()
	return slices.Concat(found...)
}

// askPublic sends the webhook. Only 401 and 403 of Caly are right answers.
func askPublic(ctx context.Context, address string) []doctor.Finding {
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	host := u.Scheme + "://" + u.Host
	if strings.HasSuffix(u.Hostname(), ".svc") || strings.HasSuffix(u.Hostname(), ".svc.cluster.local") {
		return finding(doctor.Critical, host, "Exotel cannot reach this name: it exists inside the cluster only",
			"enable ingress or httpRoute, or set publicURL")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader("CallSid=doctor"))
	if err != nil {
		return nil
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	begin := time.Now()
	httpClient := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return finding(doctor.Warning, host, "no answer from here: "+withoutURL(err).Error(),
			"look at DNS, the certificate and the router; Exotel may have another way to it than this machine")
	}
	took := time.Since(begin)
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<12))
	_ = response.Body.Close()
	found := judgePublic(host, response, body, took)
	if response.TLS != nil && len(response.TLS.PeerCertificates) > 0 {
		if end := response.TLS.PeerCertificates[0].NotAfter; time.Until(end) < certificateSoon {
			found = append(
				found,
				finding(doctor.Warning, host, "the certificate ends at "+end.UTC().Format(time.RFC3339), "renew it")...)
		}
	}
	if at, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		if skew := time.Since(at); skew.Abs() > took+mostSkew {
			found = append(
				found,
				finding(doctor.Warning, host, fmt.Sprintf("its clock and that of this machine differ by %s",
					skew.Abs().Round(time.Second)), "synchronise the clocks of the nodes")...)
		}
	}
	return found
}

// judgePublic judges the answer. A 401 or 403 that is not Caly's is that of something in front, such as the basic
// authentication of an Ingress: no webhook arrives then.
func judgePublic(host string, response *http.Response, body []byte, took time.Duration) []doctor.Finding {
	var problem struct {
		Code      string `json:"code"`
		RequestID string `json:"requestId"`
	}
	ours := strings.HasPrefix(response.Header.Get("Content-Type"), "application/problem+json") &&
		json.Unmarshal(body, &problem) == nil && problem.Code != "" && problem.RequestID != ""
	refused := response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden
	switch {
	case refused && ours:
		return finding(doctor.OK, host, fmt.Sprintf("a webhook without a signature is refused with %d, in %s",
			response.StatusCode, took.Round(time.Millisecond)), "")
	case refused:
		return finding(doctor.Critical, host, fmt.Sprintf(
			"something in front of Caly answers %d to a webhook: %s",
			response.StatusCode,
			bounded.Text(string(body), 200),
		), "let the paths below /webhooks/ through to the data plane without a login or a filter of its own")
	}
	return finding(doctor.Critical, host, fmt.Sprintf("a webhook without a signature is answered %d, want 401: %s",
		response.StatusCode, bounded.Text(string(body), 200)), "look at the router in front and at the data plane")
}

// withoutURL leaves out the URL of an error of net/http, which may hold a token.
func withoutURL(err error) error {
	if failed, ok := err.(*url.Error); ok { //nolint:errorlint // http.Client returns this type
		return failed.Err
	}
	return err
}
