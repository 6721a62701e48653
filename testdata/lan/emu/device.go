//go:build linux

package emu

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A device is the switch's end of an interface: one frame per read and write.
type device struct {
	file       *os.File
	setCarrier func(on bool) error
	cleanup    func() // nil: closing the file is all
}

func (d device) close() {
	d.file.Close()
	if d.cleanup != nil {
		d.cleanup()
	}
}

// openTAP makes a TAP interface of that name in h. It lasts until the device is closed.
func openTAP(h *Host, name string) (device, error) {
	fd := -1
	err := h.Do(func() error { // the interface appears in the namespace of who opens
		var err error
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return device{}, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return device{}, fmt.Errorf("making a TAP device: %w", err)
	}
	file := os.NewFile(uintptr(fd), "tap")
	return device{file: file, setCarrier: func(on bool) error {
		value := int32(0)
		if on {
			value = 1
		}
		raw, err := file.SyscallConn()
		if err != nil {
			return err
		}
		var errno unix.Errno
		err = raw.Control(func(fd uintptr) {
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, unix.TUNSETCARRIER, uintptr(unsafe.Pointer(&value)))
		})
		if err == nil && errno != 0 {
			err = errno
		}
		return err
	}}, nil
}

// openVeth makes a veth interface of that name in h, the other end of which is in the
// Lab's panel, where no program sees it. It lasts until the device is closed. h.lab.mu
// is held.
func openVeth(h *Host, name string) (device, error) {
	lab := h.lab
	if lab.panel == nil {
		panel, err := newHost(lab, 0, HostConfig{Name: "panel", Alone: true})
		if err != nil {
			return device{}, fmt.Errorf("making a namespace for the switch: %w", err)
		}
		lab.panel = panel
	}
	panel := lab.panel
	lab.veths++
	peer := fmt.Sprintf("port%d", lab.veths)
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: name},
		PeerName:      peer,
		PeerNamespace: netlink.NsFd(panel.net),
	}
	if err := h.nl.LinkAdd(veth); err != nil {
		return device{}, fmt.Errorf("making a veth pair: %w", err)
	}
	cleanup := func() { h.nl.LinkDel(veth) }
	link, err := panel.nl.LinkByName(peer)
	var file *os.File
	if err == nil {
		file, err = openPeer(panel, link)
	}
	if err == nil {
		err = h.Do(func() error { return offloadOff(name) })
	}
	if err != nil {
		if file != nil {
			file.Close()
		}
		cleanup()
		return device{}, err
	}
	return device{file: file, cleanup: cleanup, setCarrier: func(on bool) error {
		if on {
			return panel.nl.LinkSetUp(link)
		}
		return panel.nl.LinkSetDown(link)
	}}, nil
}

// openPeer sets the switch's end of a veth pair up, mute of itself, and opens it.
func openPeer(panel *Host, link netlink.Link) (*os.File, error) {
	name := link.Attrs().Name
	// The kernel is not to take part in the LAN here. Where one of these is refused
	// the interface still has no IPv4 address, so that it is only a little talkative.
	const genModeNone = 1 // IN6_ADDR_GEN_MODE_NONE
	panel.nl.LinkSetIP6AddrGenMode(link, genModeNone)
	panel.nl.LinkSetARPOff(link)
	if err := panel.nl.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("setting %s up: %w", name, err)
	}
	fd := -1
	err := panel.Do(func() error {
		os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
		var err error
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if err == nil { // the queue is put in place only a while after the carrier has come
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	}
	if err == nil {
		const room = 8 << 20
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room) // as much as is allowed
		}
		all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL})
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("binding a packet socket to %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// offloadOff makes the kernel finish frames, checksums and segments too, before an
// interface of the calling thread's namespace sends them: nothing behind a veth would.
func offloadOff(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(fd)
	for _, cmd := range []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO} {
		value := struct{ cmd, data uint32 }{cmd: cmd}
		req := struct { // struct ifreq
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}{data: unsafe.Pointer(&value)}
		copy(req.name[:], name)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
			return fmt.Errorf("switching offload %#x of %s off: %w", cmd, name, errno)
		}
	}
	return nil
}
