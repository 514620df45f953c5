package egress

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// forbidden must never be connected to.
var forbidden = []string{
	"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255",
	"127.0.0.1", "127.0.0.53", "127.255.255.254", "168.63.129.16", "169.254.0.1", "169.254.169.254", "169.254.170.2",
	"172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1",
	"192.168.0.1", "192.168.255.255", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9",
	"224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
	"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:0:7f00:1",
	"64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::c0a8:1", "64:ff9b:1::1", "64:ff9b:1::808:808",
	"100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:20::1", "2001:db8::1",
	"2002:7f00:1::1", "2002:a00:1::", "2002:c0a8:101::1", "2002:808:808::1", "2620:4f:8000::1", "3fff::1", "5f00::1",
	"fc00::1", "fd00:ec2::254", "fd12:3456:789a::1", "fe80::1", "fe80::a9fe:a9fe", "fec0::1", "ff02::1", "ff0e::1", "4000::1", "e000::1",
	"fe80::1%eth0", "2606:4700::1%eth0",
}

// public may be.
var public = []string{
	"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
	"168.63.129.15", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.1", "198.17.255.255", "198.20.0.0", "223.255.255.254",
	"::ffff:8.8.8.8", "64:ff9b::808:808", "2001:200::1", "2001:4860:4860::8888", "2400:cb00::1", "2606:4700:4700::1111", "2a00:1450:4001::1",
}

func TestAddresses(t *testing.T) {
	g := New(Config{})
	for _, text := range forbidden {
		if err := g.Check(netip.AddrPortFrom(netip.MustParseAddr(text), 443)); fault.CodeOf(err) != CodeAddress || !fault.Is(err, fault.PermissionDenied) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range public {
		if err := g.Check(netip.AddrPortFrom(netip.MustParseAddr(text), 443)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if len(forbidden) < 40 || Public(netip.Addr{}) {
		t.Error("the corpus is too small, or nothing at all is public")
	}
}

// What stands for an IPv4 address is what that one is, at most.
func TestEmbeddedAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4"))
		plain := Public(netip.AddrFrom4(b))
		mapped := netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]})
		translated := netip.AddrFrom16([16]byte{0: 0, 1: 0x64, 2: 0xff, 3: 0x9b, 12: b[0], 13: b[1], 14: b[2], 15: b[3]})
		if Public(mapped) != plain || Public(translated) != plain {
			t.Fatalf("%v: %t, mapped %t, translated %t", b, plain, Public(mapped), Public(translated))
		}
		a := netip.AddrFrom4(b)
		if plain && (a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || !a.IsGlobalUnicast()) {
			t.Fatalf("%s is public", a)
		}
	})
}

func TestPorts(t *testing.T) {
	address := netip.MustParseAddr("8.8.8.8")
	plain, more := New(Config{}), New(Config{Ports: []uint16{8443}})
	for port, want := range map[uint16][2]bool{443: {true, true}, 8443: {false, true}, 80: {}, 22: {}, 0: {}, 6379: {}} {
		for i, g := range []*Guard{plain, more} {
			if err := g.Check(netip.AddrPortFrom(address, port)); (err == nil) != want[i] || err != nil && fault.CodeOf(err) != CodePort {
				t.Errorf("port %d: %v", port, err)
			}
		}
	}
}

// What is allowed is allowed exactly, in either notation.
func TestAllowedNetworks(t *testing.T) {
	g := New(Config{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")}})
	for text, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "fd00::1": true, "fc00::1": false, "fd00::1%eth0": false, "8.8.8.8": true, "127.0.0.1": false} {
		if err := g.Check(netip.AddrPortFrom(netip.MustParseAddr(text), 443)); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The check is within the dialer, before a packet leaves; whatever the address is
// written like.
func TestDialer(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := netip.MustParseAddrPort(l.Addr().String())
	dial := func(g *Guard, address string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := g.Dialer(time.Second).DialContext(ctx, "tcp", address)
		if err == nil {
			c.Close()
		}
		return err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	closed := New(Config{Ports: []uint16{to.Port()}})
	for _, host := range []string{"127.0.0.1", "::ffff:127.0.0.1", "localhost", "0.0.0.0", "::"} {
		if err := dial(closed, net.JoinHostPort(host, port)); fault.CodeOf(err) != CodeAddress {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := dial(New(Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}), to.String()); fault.CodeOf(err) != CodePort {
		t.Errorf("another port: %v", err)
	}
	if err := dial(New(Config{Ports: []uint16{to.Port()}, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}), to.String()); err != nil {
		t.Errorf("what is allowed: %v", err)
	}
	if err := closed.control("udp4", "8.8.8.8:443", nil); fault.CodeOf(err) != CodeAddress {
		t.Errorf("UDP: %v", err)
	}
	if err := closed.control("tcp4", "somewhere", nil); fault.CodeOf(err) != CodeAddress {
		t.Errorf("no address: %v", err)
	}
}
