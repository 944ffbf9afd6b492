/* Answers every datagram with so many octets: what the kernel alone allows an agent of one thread. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    static char datagram[65536];
    if (argc != 4) {
        fprintf(stderr, "usage: %s ADDRESS PORT OCTETS\n", argv[0]);
        return 2;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
    size_t octets = (size_t)atoi(argv[3]);
    int udp = socket(AF_INET, SOCK_DGRAM, 0), room = 1 << 20;
    if (octets > sizeof datagram || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1 || udp < 0)
        return 2;
    setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (bind(udp, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("bind");
        return 1;
    }
    for (;;) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        if (recvfrom(udp, datagram, sizeof datagram, 0, (struct sockaddr *)&from, &length) < 0 ||
            sendto(udp, datagram, octets, 0, (struct sockaddr *)&from, length) < 0)
            perror("datagram");
    }
}
