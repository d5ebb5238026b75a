"""What does training take: arithmetic, memory of each device, time?"""
