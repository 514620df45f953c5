// Package egress keeps connections that customers choose the addresses of away
// from the platform's own networks (server-side request forgery).
//
// What is checked is the address that a socket is about to connect to, after
// every name was resolved: names that lead elsewhere a moment later, numbers in
// odd notations and redirects change nothing. Only global unicast addresses
// pass, as IANA's registries of special-purpose addresses have it (RFC 6890),
// and only the ports that are configured.
//
// Known limits: a public address that a firewall or router maps to something
// internal cannot be told from others; filter those in the network. The tables
// are as of 2026 and do not update themselves.
package egress

import (
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"sluice/internal/platform/fault"
)

// Config says what is let through; the zero value lets port 443 of public
// addresses through.
type Config struct {
	// Ports are let through beside 443.
	Ports []uint16
	// Allow are networks that are let through although they are not public: for
	// receivers on premises, and tests.
	Allow []netip.Prefix
	// Resolver looks names up; nil is the system's.
	Resolver *net.Resolver
}

// The codes of refusals.
const (
	CodeAddress = "address_forbidden"
	CodePort    = "port_forbidden"
)

// Guard lets connections through, or refuses them.
type Guard struct {
	ports    []uint16
	allow    []netip.Prefix
	resolver *net.Resolver
}

// New returns a guard.
func New(cfg Config) *Guard {
	return &Guard{append([]uint16{443}, cfg.Ports...), slices.Clone(cfg.Allow), cfg.Resolver}
}

// Check refuses, with fault.PermissionDenied, what nobody outside may have us
// connect to. The message names no address: who caused it may be a stranger.
func (g *Guard) Check(to netip.AddrPort) error {
	if !slices.Contains(g.ports, to.Port()) {
		return fault.New(fault.PermissionDenied, "connections to this port are not allowed: an operator can add it").WithCode(CodePort)
	}
	addr := to.Addr()
	if g.allowed(addr) || Public(addr) {
		return nil
	}
	return fault.New(fault.PermissionDenied, "the address is not one of the public internet: an operator can allow its network").WithCode(CodeAddress)
}

func (g *Guard) allowed(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.Zone() == "" && slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Dialer returns a dialer whose every connection attempt is checked.
func (g *Guard) Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, Resolver: g.resolver, Control: g.control}
}

// control is called with the address that is connected to, right before that.
func (g *Guard) control(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return fault.New(fault.PermissionDenied, "only TCP connections are allowed").WithCode(CodeAddress)
	}
	return g.Check(to)
}

// Public says whether the address is a unicast address of the public internet.
// An address that stands for an IPv4 address behind a translator (NAT64) is what
// that one is.
func Public(addr netip.Addr) bool {
	addr = addr.Unmap()
	switch {
	case !addr.IsValid() || addr.Zone() != "":
		return false
	case addr.Is4():
		return !within(addr, special4)
	case nat64.Contains(addr):
		b := addr.As16()
		return Public(netip.AddrFrom4([4]byte(b[12:])))
	}
	return unicast6.Contains(addr) && !within(addr, special6)
}

func within(addr netip.Addr, networks []netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}
