//! The test vectors of RFC 9235, sections 4 to 7: every packet, its traffic key and its code.

use rxpath_wire::{Addr, SeqNum, TcpFlags, TcpHeader, Tuple};

use super::super::keys::{AoAlgorithm, AoKey, Peers, Secret};
use super::super::option::{Auth, parse_all};
use super::{Direction, Signed, TrafficKey};

/// A connection of the RFC.
struct Connection {
    section: &'static str,
    algorithm: AoAlgorithm,
    exclude_options: bool,
    /// Initial sequence numbers of client and server.
    isns: (u32, u32),
    /// SYN, SYN-ACK, data of the client, data of the server: from the IP header on, and the traffic key.
    packets: [(&'static str, &'static str); 4],
}

/// Port of the server.
const SERVER: u16 = 179;

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("a digit") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// The addresses of a packet, and its segment.
fn split(packet: &[u8]) -> (Addr, Addr, &[u8]) {
    if packet[0] >> 4 == 4 {
        let addr = |at: usize| Addr::from_v4(packet[at..at + 4].try_into().expect("four bytes"));
        return (addr(12), addr(16), &packet[20..]);
    }
    let addr = |at: usize| {
        let octets: [u8; 16] = packet[at..at + 16].try_into().expect("sixteen bytes");
        Addr::from(std::net::IpAddr::from(octets))
    };
    (addr(8), addr(24), &packet[40..])
}

#[test]
fn the_vectors_of_rfc_9235_hold() {
    for connection in &CONNECTIONS {
        let Connection { section, algorithm, exclude_options, isns: (client, server), packets } = connection;
        let peers = Peers::network([0; 4], 0).expect("all");
        let key = AoKey {
            recv_id: 84,
            algorithm: *algorithm,
            exclude_options: *exclude_options,
            ..AoKey::new(peers, 61, Secret::new(b"testvector").expect("a secret"))
        };
        for (at, (packet, traffic_key)) in packets.iter().enumerate() {
            let packet = bytes(packet);
            let (src, dst, segment) = split(&packet);
            let (header, options, payload) = TcpHeader::split(segment).expect("a header");
            let tuple =
                Tuple { local: src, remote: dst, local_port: header.src_port(), remote_port: header.dst_port() };
            let (sisn, disn) = if tuple.remote_port == SERVER { (*client, *server) } else { (*server, *client) };
            let disn = if header.flags() & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN { 0 } else { disn };
            let direction = Direction { tuple, sisn: SeqNum(sisn), disn: SeqNum(disn) };
            let derived = TrafficKey::derive(&key, &direction);
            assert_eq!(derived.as_bytes(), bytes(traffic_key), "{section}, packet {at}");
            let Ok(Auth::Ao(option)) = parse_all(options) else { panic!("{section}, packet {at} carries a code") };
            let header = &segment[..segment.len() - payload.len()];
            let signed = Signed { ends: (src, dst), header, payload: std::iter::once(payload) };
            assert_eq!(derived.code(0, &signed)[..12], *option.mac, "{section}, packet {at}");
            let halves = Signed { ends: (src, dst), header, payload: payload.chunks(5) };
            assert_eq!(derived.code(0, &halves)[..12], *option.mac, "in pieces");
            assert_ne!(derived.code(1, &signed)[..12], *option.mac, "one turn later");
        }
    }
}

#[rustfmt::skip]
const CONNECTIONS: [Connection; 8] = [
    Connection {
        section: "4.1",
        algorithm: AoAlgorithm::HmacSha1,
        exclude_options: false,
        isns: (0xfbfb_ab5a, 0x11c1_4261),
        packets: [
            (
                "45e0004cdd0f4000ff06bf6b0a0b0c0dac1b1c1de9d700b3fbfbab5a00000000e002ffffcac40000020405b4010303080402\
                 080a00155ab7000000001d103d542ee437c6f8ede6d7c4d602e7",
                "6d63ef1b02fe1509d4b1402707fd7b0416abb74f",
            ),
            (
                "45e0004c65064000ff063775ac1b1c1d0a0b0c0d00b3e9d711c14261fbfbab5be012ffff37760000020405b4010303080402\
                 080a84a50beb00155ab71d10543deeab0fe24c3010815116b3be",
                "d9e217e4834a80ca2f3fd8de2e41b8e6797fea96",
            ),
            (
                "45e0008736a14000ff06659f0a0b0c0dac1b1c1de9d700b3fbfbab5b11c14262c0180104a16200000101080a00155ac184a5\
                 0beb1d103d547064cf998cc6c315c2c2e2bfffffffffffffffffffffffffffffffff00430104dabf00b40a0b0c0d26020601\
                 0400010001020280000202020002024200020641040000dabf02084006006400010100",
                "d2e59c65ffc7b1a39347656463b70edc24a13d71",
            ),
            (
                "45e000871fa94000ff067c97ac1b1c1d0a0b0c0d00b3e9d711c14262fbfbab9ec0180100400c00000101080a84a50bf50015\
                 5ac11d10543da63f0ecbbb2e635c954deac7ffffffffffffffffffffffffffffffff00430104dac000b4ac1b1c1d26020601\
                 0400010001020280000202020002024200020641040000dac002084006006400010100",
                "d9e217e4834a80ca2f3fd8de2e41b8e6797fea96",
            ),
        ],
    },
    Connection {
        section: "4.2",
        algorithm: AoAlgorithm::HmacSha1,
        exclude_options: true,
        isns: (0xcb0e_fbee, 0xacd5_b5e1),
        packets: [
            (
                "45e0004c53994000ff0648e20a0b0c0dac1b1c1dff1200b3cb0efbee00000000e002ffff541f0000020405b4010303080402\
                 080a00024cce000000001d103d5480af3cfeb85368937b8f9ec2",
                "30eaa1560cf0be57dab5c045229fb10a423cd7ea",
            ),
            (
                "45e0004c32844000ff0669f7ac1b1c1d0a0b0c0d00b3ff12acd5b5e1cb0efbefe012ffff388e0000020405b4010303080402\
                 080a576772f300024cce1d10543d09306f9acea63a8c68cb9a70",
                "b5b2896bb3664e8176b0edc6e799524101a8307f",
            ),
            (
                "45e00087a8f54000ff06f34a0a0b0c0dac1b1c1dff1200b3cb0efbefacd5b5e2c01801046c4500000101080a00024cce5767\
                 72f31d103d54710608cc696c03a271c93aa5ffffffffffffffffffffffffffffffff00430104dabf00b40a0b0c0d26020601\
                 0400010001020280000202020002024200020641040000dabf02084006006400010100",
                "f3db1793d7910ecd806c34f155ea1f00345953e3",
            ),
            (
                "45e0008754374000ff064809ac1b1c1d0a0b0c0d00b3ff12acd5b5e2cb0efc32c018010046b600000101080a576772f30002\
                 4cce1d10543d97766e48ac262de9ae61b4f9ffffffffffffffffffffffffffffffff00430104dac000b4ac1b1c1d26020601\
                 0400010001020280000202020002024200020641040000dac002084006006400010100",
                "b5b2896bb3664e8176b0edc6e799524101a8307f",
            ),
        ],
    },
    Connection {
        section: "5.1",
        algorithm: AoAlgorithm::Aes128Cmac,
        exclude_options: false,
        isns: (0x787a_1ddf, 0xfadd_6de9),
        packets: [
            (
                "45e0004c7b9f4000ff0620dc0a0b0c0dac1b1c1dc4fa00b3787a1ddf00000000e002ffff5a0f0000020405b4010303080402\
                 080a00017ed0000000001d103d54e477e99c8040765498e55091",
                "f5b8b3d5f34fdbb6eb8d4ab9660e60e3",
            ),
            (
                "45e0004c4bad4000ff0650ceac1b1c1d0a0b0c0d00b3c4fafadd6de9787a1de0e012fffff3f20000020405b4010303080402\
                 080a93f4e9e800017ed01d10543dd6ada7bc4cdd536d1769db5f",
                "4bc7571a486f3264bbd888474066b4b1",
            ),
            (
                "45e00087fb4f4000ff06a0f00a0b0c0dac1b1c1dc4fa00b3787a1de0fadd6deac0180104950500000101080a00017ed093f4\
                 e9e81d103d5477412742fa4dc433eff0973effffffffffffffffffffffffffffffff00430104dabf00b40a0b0c0d26020601\
                 0400010001020280000202020002024200020641040000dabf02084006006400010100",
                "8c8ae0e8371ec5cbb97ea79d90418391",
            ),
            (
                "45e00087b9144000ff06e32bac1b1c1d0a0b0c0d00b3c4fafadd6dea787a1e23c0180100e7db00000101080a93f4e9e80001\
                 7ed01d10543df6d965a78382a74845f72dacffffffffffffffffffffffffffffffff00430104dac000b4ac1b1c1d26020601\
                 0400010001020280000202020002024200020641040000dac002084006006400010100",
                "4bc7571a486f3264bbd888474066b4b1",
            ),
        ],
    },
    Connection {
        section: "5.2",
        algorithm: AoAlgorithm::Aes128Cmac,
        exclude_options: true,
        isns: (0x389b_ed71, 0xd384_4a6f),
        packets: [
            (
                "45e0004cf22e4000ff06aa4c0a0b0c0dac1b1c1dda1c00b3389bed7100000000e002ffff70bf0000020405b4010303080402\
                 080a000185e1000000001d103d54c44e60cb31f7c0b1de3d2749",
                "2cdbae1392c49449fa92c4509735d50e",
            ),
            (
                "45e0004c6cc04000ff062fbbac1b1c1d0a0b0c0d00b3da1cd3844a6f389bed72e012ffffe4450000020405b4010303080402\
                 080ace459838000185e11d10543d3a6abb207e49b1be7136db90",
                "3ce67a551869506b6347b633c50a624a",
            ),
            (
                "45e00087ee914000ff06adae0a0b0c0dac1b1c1dda1c00b3389bed72d3844a70c0180104885100000101080a000185e1ce45\
                 98381d103d547585e9e9d5c3ec857b96f837ffffffffffffffffffffffffffffffff00430104dabf00b40a0b0c0d26020601\
                 0400010001020280000202020002024200020641040000dabf02084006006400010100",
                "035bc400a341ffe595f59f58005006ca",
            ),
            (
                "45e000876a214000ff06321fac1b1c1d0a0b0c0d00b3da1cd3844a70389bed72c0180100044900000101080ace4598380001\
                 85e11d10543d5c040fd9233304765c0982f4ffffffffffffffffffffffffffffffff00430104dac000b4ac1b1c1d26020601\
                 0400010001020280000202020002024200020641040000dac002084006006400010100",
                "3ce67a551869506b6347b633c50a624a",
            ),
        ],
    },
    Connection {
        section: "6.1",
        algorithm: AoAlgorithm::HmacSha1,
        exclude_options: false,
        isns: (0x176a_833f, 0x3f51_994b),
        packets: [
            (
                "6e0891dc00380640fd000000000000000000000000000001fd000000000000000000000000000002f7e400b3176a833f0000\
                 0000e002ffff47210000020405a0010303080402080a0041d087000000001d103d549033ec3d7334b64c5edd039f",
                "625ec09d575836edc9b6428418bbf06989a361bb",
            ),
            (
                "6e01009e00380640fd000000000000000000000000000002fd00000000000000000000000000000100b3f7e43f51994b176a\
                 8340e012ffffbfec0000020405a0010303080402080abd33129b0041d0871d10543df1cba346c3526163f71f1f55",
                "e4a37ada2a0afca8711434913fe138c771ebcb4a",
            ),
            (
                "6e0891dc00730640fd000000000000000000000000000001fd000000000000000000000000000002f7e400b3176a83403f51\
                 994cc0180100329c00000101080a0041d091bd33129b1d103d54bf0805feb4ac7b163d6fcdf2ffffffffffffffffffffffff\
                 ffffffff00430104fde800b401010179260206010400010001020280000202020002024200020641040000fde80208400600\
                 6400010100",
                "1ed82975f4ea444c61580c5bd90dbd61bbc91b7e",
            ),
            (
                "6e01009e00730640fd000000000000000000000000000002fd00000000000000000000000000000100b3f7e43f51994c176a\
                 8383c0180100ee6e00000101080abd3312a50041d0911d10543d6c48125c11335bab9a07a797ffffffffffffffffffffffff\
                 ffffffff00430104fde800b40101017a260206010400010001020280000202020002024200020641040000fde80208400600\
                 6400010100",
                "e4a37ada2a0afca8711434913fe138c771ebcb4a",
            ),
        ],
    },
    Connection {
        section: "6.2",
        algorithm: AoAlgorithm::HmacSha1,
        exclude_options: true,
        isns: (0x020c_1e69, 0xeba3_734d),
        packets: [
            (
                "6e078fcd00380640fd000000000000000000000000000001fd000000000000000000000000000002c6cd00b3020c1e690000\
                 0000e002ffffa41a0000020405a0010303080402080a009db95b000000001d103d54885698b0530ed4d5a15f8346",
                "31a3faf69effae52931b7f845467315c270a4edc",
            ),
            (
                "6e0a7e1f00380640fd000000000000000000000000000002fd00000000000000000000000000000100b3c6cdeba3734d020c\
                 1e6ae012ffff774d0000020405a0010303080402080a5ec99b70009db95b1d10543d3c546bad9743f12df8b8010d",
                "405108947f996575e7bdbc26d40216a2c7fa91bd",
            ),
            (
                "6e078fcd00730640fd000000000000000000000000000001fd000000000000000000000000000002c6cd00b3020c1e6aeba3\
                 734ec018010083e600000101080a009db9655ec99b701d103d5448bd093b1924e001192f5bf0ffffffffffffffffffffffff\
                 ffffffff00430104fde800b401010179260206010400010001020280000202020002024200020641040000fde80208400600\
                 6400010100",
                "b34eed6a9396a669f1c4f4f57618f3656f52c7ab",
            ),
            (
                "6e0a7e1f00730640fd000000000000000000000000000002fd00000000000000000000000000000100b3c6cdeba3734e020c\
                 1eadc0180100716a00000101080a5ec99b7a009db9651d10543d559a819445b4fde98d9e1317ffffffffffffffffffffffff\
                 ffffffff00430104fde800b40101017a260206010400010001020280000202020002024200020641040000fde80208400600\
                 6400010100",
                "405108947f996575e7bdbc26d40216a2c7fa91bd",
            ),
        ],
    },
    Connection {
        section: "7.1",
        algorithm: AoAlgorithm::Aes128Cmac,
        exclude_options: false,
        isns: (0x193c_ccec, 0xa674_4ecb),
        packets: [
            (
                "6e04a70600380640fd000000000000000000000000000001fd000000000000000000000000000002f85a00b3193cccec0000\
                 0000e002ffffde5d0000020405a0010303080402080a13e4ab99000000001d103d5459b588107481ac6dc3927040",
                "fa5a2108882d39d0c71929175ab1b7b8",
            ),
            (
                "6e06152000380640fd000000000000000000000000000002fd00000000000000000000000000000100b3f85aa6744ecb193c\
                 ccede012ffffeabb0000020405a0010303080402080a71daabc813e4ab991d10543ddc2843a84e78a6bcfdc5ed80",
                "cf1b1e225e06a63616764a067b46f4b1",
            ),
            (
                "6e04a70600730640fd000000000000000000000000000001fd000000000000000000000000000002f85a00b3193ccceda674\
                 4eccc0180100328000000101080a13e4aba371daabc81d103d547b6a455c0d4f5f01835baab3ffffffffffffffffffffffff\
                 ffffffff00430104fde800b401010179260206010400010001020280000202020002024200020641040000fde80208400600\
                 6400010100",
                "6174c3557abed27574dba37185f00300",
            ),
            (
                "6e06152000730640fd000000000000000000000000000002fd00000000000000000000000000000100b3f85aa6744ecc193c\
                 cd30c018010052f400000101080a71daabd313e4aba31d10543dc1069b7dfd3d693a6df3f289ffffffffffffffffffffffff\
                 ffffffff00430104fde800b40101017a260206010400010001020280000202020002024200020641040000fde80208400600\
                 6400010100",
                "cf1b1e225e06a63616764a067b46f4b1",
            ),
        ],
    },
    Connection {
        section: "7.2",
        algorithm: AoAlgorithm::Aes128Cmac,
        exclude_options: true,
        isns: (0xb01d_a74a, 0xa624_6145),
        packets: [
            (
                "6e093d7600380640fd000000000000000000000000000001fd000000000000000000000000000002f28800b3b01da74a0000\
                 0000e002ffff75ff0000020405a0010303080402080a14275b3b000000001d103d543d45b4342de8bb1530847898",
                "a94f511263e4093d35dd818c13bbbf53",
            ),
            (
                "6e0c600a00380640fd000000000000000000000000000002fd00000000000000000000000000000100b3f288a6246145b01d\
                 a74be012ffffa70c0000020405a0010303080402080a1782245b14275b3b1d10543d1d01f6c87c6f93acffa9d4b5",
                "92dea5bbc78b1d9f5b2952e9cd30642a",
            ),
            (
                "6e093d7600730640fd000000000000000000000000000001fd000000000000000000000000000002f28800b3b01da74ba624\
                 6146c0180100c36d00000101080a14275b4f1782245b1d103d54290cf414ccb47a333276e7f8ffffffffffffffffffffffff\
                 ffffffff00430104fde800b401010179260206010400010001020280000202020002024200020641040000fde80208400600\
                 6400010100",
                "4fb2086e402c679079ed65d4bf97693d",
            ),
            (
                "6e0c600a00730640fd000000000000000000000000000002fd00000000000000000000000000000100b3f288a6246146b01d\
                 a78ec0180100345100000101080a1782246514275b4f1d10543d99515ffcd5403499f619fd1bffffffffffffffffffffffff\
                 ffffffff00430104fde800b40101017a260206010400010001020280000202020002024200020641040000fde80208400600\
                 6400010100",
                "92dea5bbc78b1d9f5b2952e9cd30642a",
            ),
        ],
    },
];
