package main

import (
	"log/slog"
	"net"
	"net/netip"
)

// proxiesOfOwn is a range of trusted proxies that contains an address of the pod itself.
type proxiesOfOwn struct {
	Range   netip.Prefix
	Address netip.Addr
}

// findOwn returns the ranges that contain one of the addresses, each with the first such address. Addresses of the
// loopback and link-local networks do not count: only processes of the pod itself reach those.
func findOwn(ranges []netip.Prefix, addresses []net.Addr) (list []proxiesOfOwn) {
	for _, r := range ranges {
		for _, a := range addresses {
			ip, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			own := ip.Addr().Unmap()
			if r.Contains(own) && !own.IsLoopback() && !own.IsLinkLocalUnicast() {
				list = append(list, proxiesOfOwn{Range: r, Address: own})
				break
			}
		}
	}
	return list
}

// warnOfOwn logs ranges of trusted proxies that contain the pod's own address. Such a range usually contains every
// pod of the cluster, and each of them could choose the address that it seems to come from.
func warnOfOwn(log *slog.Logger, ranges []netip.Prefix) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		log.Warn("the addresses of this pod cannot be read to check --trusted-proxies", "error", err)
		return
	}
	for _, own := range findOwn(ranges, addresses) {
		log.Warn("a range of --trusted-proxies contains the address of this pod: "+
			"every pod in it can forge X-Forwarded headers; name the addresses of the ingress or the nodes only",
			"range", own.Range.String(), "address", own.Address.String())
	}
}
