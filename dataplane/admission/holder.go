package admission

import "net/netip"

// Holder is who a place counts for. Places of the zero Holder count for nobody: they have no share.
type Holder struct {
	name   string
	tenant bool
}

// Tenant returns the holder of verified requests of a tenant.
func Tenant(id string) Holder { return Holder{name: "tenant " + id, tenant: true} }

// Bits of an address that one client has. A site gets a /48 of IPv6.
const (
	clientBits4 = 32
	clientBits6 = 48
)

// Address returns the holder of requests that are not verified yet. An address that is not public has no share: it
// is a proxy whose clients this pod cannot tell apart, because it is not one of the trusted ones.
func Address(client netip.Addr) Holder {
	client = client.Unmap().WithZone("")
	if !client.IsGlobalUnicast() || client.IsPrivate() {
		return Holder{}
	}
	bits := clientBits6
	if client.Is4() {
		bits = clientBits4
	}
	prefix, err := client.Prefix(bits)
	if err != nil {
		return Holder{}
	}
	return Holder{name: prefix.String()}
}
